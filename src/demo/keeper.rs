//! Servers and folders that cannot outlive us, whatever ends us: a return, a panic, a signal, a SIGKILL. Each has
//! a small shell beside it that reads a pipe from us; the kernel closes the pipe when we end.
//!
//! `PR_SET_PDEATHSIG` on the server itself would be simpler, but it follows the *thread* that started it, and a
//! test's thread ends long before the tests do. Below the shell, which has one thread, it is used as well.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User},
};
use tokio::time::sleep;

use super::Error;

/// Between two looks at something that ends or starts.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);
const SERVER_USER: &str = "postgres";

/// Under whom servers run: us, or `postgres` if we are root, which Postgres refuses.
#[derive(Clone, Debug)]
pub(super) struct ServerUser(Option<User>);

impl ServerUser {
    pub(super) fn find() -> Result<Self, Error> {
        if !Uid::effective().is_root() {
            return Ok(Self(None));
        }
        match User::from_name(SERVER_USER) {
            Ok(Some(user)) => Ok(Self(Some(user))),
            _ => Err(Error::NoServerUser { user: SERVER_USER }),
        }
    }

    /// Gives it this file or folder.
    pub(super) fn own(&self, path: &Path) -> Result<(), Error> {
        if let Some(user) = &self.0 {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .map_err(Error::files(path))?;
        }
        Ok(())
    }

    /// Makes a folder that belongs to it, if there is none. `mode` as in chmod.
    pub(super) fn make_folder(&self, path: &Path, mode: u32) -> Result<(), Error> {
        fs::create_dir_all(path).map_err(Error::files(path))?;
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::files(path))?;
        self.own(path)
    }

    /// Fails if it cannot enter the folder, as with one below the home of root.
    pub(super) fn check_can_enter(&self, folder: &Path) -> Result<(), Error> {
        let Some(user) = &self.0 else { return Ok(()) };
        let mut command = self.command("test", None);
        let entered = command.arg("-x").arg(folder).status().is_ok_and(|status| status.success());
        if entered {
            Ok(())
        } else {
            Err(Error::ClosedFolder { user: user.name.clone(), folder: folder.into() })
        }
    }

    /// A command to run as this user.
    pub(super) fn command(&self, program: impl AsRef<OsStr>, dies_by: Option<Signal>) -> Command {
        let words = self.words(program.as_ref(), dies_by);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// `setpriv … program`. `dies_by`: what the program gets when the process that started it ends.
    fn words(&self, program: &OsStr, dies_by: Option<Signal>) -> Vec<OsString> {
        let mut words = vec![OsString::from("setpriv")];
        if let Some(user) = &self.0 {
            words.push(format!("--reuid={}", user.uid).into());
            words.push(format!("--regid={}", user.gid).into());
            words.push("--init-groups".into());
        }
        if let Some(signal) = dies_by {
            words.push("--pdeathsig".into());
            words.push(short_name(signal).into());
        }
        words.push("--".into());
        words.push(program.into());
        words
    }
}

/// `TERM` for `SIGTERM`, as shells and setpriv call it.
fn short_name(signal: Signal) -> &'static str {
    signal.as_str().trim_start_matches("SIG")
}

/// What to run, and how it ends.
pub(super) struct Server<'a> {
    pub(super) user: &'a ServerUser,
    pub(super) program: &'a OsStr,
    pub(super) arguments: Vec<OsString>,
    /// The whole environment.
    pub(super) environment: Vec<(String, String)>,
    /// Working directory; holds the lock that its [`FolderGuard`] looks at.
    pub(super) folder: &'a Path,
    /// Gets the output, appended.
    pub(super) log: &'a Path,
    /// Asks for its end.
    pub(super) end_signal: Signal,
    /// Seconds until it is ended by SIGKILL.
    pub(super) grace_seconds: u32,
}

/// A running server and the shell that watches over it. Dropped: the server is asked to end.
#[derive(Debug)]
pub(super) struct Keeper {
    shell: Option<Child>,
    /// Its other end closing is what ends the server.
    pipe: Option<ChildStdin>,
    pid: Pid,
}

impl Keeper {
    pub(super) fn start(server: &Server) -> Result<Self, Error> {
        let spawn_error = |source| Error::Spawn {
            program: server.program.to_string_lossy().into_owned(),
            source,
        };
        touch(&server.folder.join("lock"))?;
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg(include_str!("keeper.sh"))
            .arg("keeper")
            .arg(short_name(server.end_signal))
            .arg(server.grace_seconds.to_string())
            .arg(server.log)
            .arg(server.folder.join("lock"))
            .args(server.user.words(server.program, Some(server.end_signal)))
            .args(&server.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(server.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(server.folder)
            // Ctrl-C at the terminal is for us; we end the servers in our order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(spawn_error)?;
        let pipe = shell.stdin.take();
        let mut line = String::new();
        if let Some(output) = shell.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(spawn_error)?;
        }
        let pid = line.trim().parse().map(Pid::from_raw).map_err(|_| Error::Failed {
            program: server.program.to_string_lossy().into_owned(),
            tail: log_tail(server.log),
        })?;
        Ok(Self { shell: Some(shell), pipe, pid })
    }

    /// The server's own process id.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.shell.as_mut().is_none_or(|shell| !matches!(shell.try_wait(), Ok(None)))
    }

    /// Whether it has ended with exit code 0.
    pub(super) fn has_succeeded(&mut self) -> bool {
        self.shell
            .as_mut()
            .is_some_and(|shell| matches!(shell.try_wait(), Ok(Some(status)) if status.success()))
    }

    /// Sends `signal` and waits for the end.
    pub(super) async fn end(
        mut self,
        name: &'static str,
        signal: Signal,
        limit: Duration,
    ) -> Result<(), Error> {
        if self.has_ended() {
            return Ok(());
        }
        // An error: it ended just now, which is what was asked for; the shell says so in a moment.
        kill(self.pid, signal).ok();
        let since = Instant::now();
        while !self.has_ended() {
            if since.elapsed() > limit {
                return Err(Error::NotEnding { program: name, limit });
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.pipe.take());
        reap(self.shell.take());
    }
}

/// Removes a folder when dropped or when we end, after the servers in it have ended.
#[derive(Debug)]
pub(super) struct FolderGuard {
    shell: Option<Child>,
    pipe: Option<ChildStdin>,
    folder: PathBuf,
}

impl FolderGuard {
    /// A new folder in the system's place for temporary ones, which every user can enter.
    pub(super) fn make() -> Result<Self, Error> {
        let place = std::env::temp_dir();
        let folder = tempfile::Builder::new()
            .prefix("plait-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .map_err(Error::files(place))?
            .keep();
        touch(&folder.join("lock"))?;
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg(include_str!("folder_guard.sh"))
            .arg("folder_guard")
            .arg(&folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| Error::Spawn { program: String::from("sh"), source })?;
        let pipe = shell.stdin.take();
        Ok(Self { shell: Some(shell), pipe, folder })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the folder now, and waits until it is gone.
    pub(super) async fn remove(mut self, limit: Duration) -> Result<(), Error> {
        drop(self.pipe.take());
        let since = Instant::now();
        while self.shell.as_mut().is_some_and(|shell| matches!(shell.try_wait(), Ok(None))) {
            if since.elapsed() > limit {
                return Err(Error::NotEnding { program: "the removal of a folder", limit });
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

impl Drop for FolderGuard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        reap(self.shell.take());
    }
}

/// Takes note of a child's end, whenever that comes, so that it leaves no zombie.
fn reap(child: Option<Child>) {
    if let Some(mut child) = child {
        std::thread::spawn(move || drop(child.wait()));
    }
}

fn touch(path: &Path) -> Result<(), Error> {
    fs::OpenOptions::new().create(true).append(true).open(path).map_err(Error::files(path))?;
    Ok(())
}

/// The last lines of a log, for an error's text.
pub(super) fn log_tail(log: &Path) -> String {
    const LINE_COUNT: usize = 15;
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINE_COUNT)..].join("\n")
}
