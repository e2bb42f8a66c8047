//! A Postgres cluster: made, started, stopped, killed, started again.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::{task::spawn_blocking, time::sleep};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::{
    Error, free_port,
    keeper::{FolderGuard, Keeper, LOOK_EVERY, Server, ServerUser, log_tail},
    secret,
};

/// The cluster's superuser.
pub const SUPERUSER: &str = "postgres";
const START_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_mins(1);
/// Ports tried on the first start, in case somebody takes one between our look and Postgres's.
const START_TRIES: u32 = 5;
/// Seconds after which a server that was asked to end is killed.
const GRACE_SECONDS: u32 = 20;
/// What logical replication needs, and what a laptop bears. A dead slot may keep 4 GB, no more.
const SETTINGS: [&str; 7] = [
    "wal_level=logical",
    "max_replication_slots=20",
    "max_wal_senders=20",
    "max_connections=200",
    "max_slot_wal_keep_size=4GB",
    "log_min_messages=warning",
    "timezone=UTC",
];

/// How to stop a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ends the sessions, writes everything down.
    Fast,
    /// At once; the next start recovers from the log.
    Immediate,
    /// SIGKILL.
    Kill,
}

/// A Postgres cluster on 127.0.0.1. It never outlives this process; a throw-away one takes its files along.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    /// Holds `data`, `run` (the socket), `log` and `lock`.
    folder: PathBuf,
    settings: Vec<String>,
    port: u16,
    password: String,
    user: ServerUser,
    // In this order: dropped top-down, the server is asked to end before its folder goes.
    server: Option<Keeper>,
    guard: Option<FolderGuard>,
}

impl Cluster {
    /// A new, running cluster in a folder of its own. `bin`: where the server programs are; `settings`: more
    /// of them, as `name=value`.
    ///
    /// # Errors
    /// The programs cannot be run, or the server does not come up within a minute.
    pub async fn throw_away(bin: &Path, settings: &[&str]) -> Result<Self, Error> {
        let guard = FolderGuard::make()?;
        let folder = guard.folder().to_path_buf();
        // What is thrown away need not survive a power cut; a crash of the server it does survive.
        let mut all = vec!["fsync=off"];
        all.extend(settings);
        Self::open(bin, folder, &all, Some(guard)).await
    }

    /// The running cluster whose files are in `folder`, which is made if need be. Keeps its port and password.
    ///
    /// # Errors
    /// As [`Cluster::throw_away`]; or the folder cannot be entered by the user whom servers run under.
    pub async fn in_folder(bin: &Path, folder: &Path, settings: &[&str]) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::files(folder))?;
        let folder = folder.canonicalize().map_err(Error::files(folder))?;
        Self::open(bin, folder, settings, None).await
    }

    /// A running hot standby of this cluster, made of a copy of its files. Slots are not among them. It is a cluster like
    /// any other once `select pg_promote()` has run there.
    ///
    /// # Errors
    /// As [`Cluster::throw_away`]; or `pg_basebackup` fails.
    pub async fn standby(&self, settings: &[&str]) -> Result<Self, Error> {
        let guard = FolderGuard::make()?;
        let folder = guard.folder().to_path_buf();
        self.user.check_can_enter(&folder)?;
        self.user.make_folder(&folder.join("data"), 0o700)?;
        write_secret(&folder.join("password"), &self.password)?;
        let mut command = self.user.command(self.bin.join("pg_basebackup"), None);
        command
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata"])
            .arg(folder.join("data"))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGPASSWORD", &self.password)
            .current_dir(&folder);
        run(command).await?;
        let mut all = vec!["fsync=off"];
        all.extend(settings);
        Self::open(&self.bin, folder, &all, Some(guard)).await
    }

    async fn open(
        bin: &Path,
        folder: PathBuf,
        settings: &[&str],
        guard: Option<FolderGuard>,
    ) -> Result<Self, Error> {
        let user = ServerUser::find()?;
        user.check_can_enter(&folder)?;
        user.make_folder(&folder.join("data"), 0o700)?;
        user.make_folder(&folder.join("run"), 0o755)?;
        let known_port = fs::read_to_string(folder.join("port")).ok();
        let known_port = known_port.and_then(|port| port.trim().parse().ok());
        let mut cluster = Self {
            bin: bin.into(),
            password: kept_secret(&folder.join("password"))?,
            settings: SETTINGS.iter().chain(settings).map(ToString::to_string).collect(),
            port: known_port.map_or_else(free_port, Ok)?,
            folder,
            user,
            server: None,
            guard,
        };
        if !cluster.data_folder().join("PG_VERSION").is_file() {
            cluster.init().await?;
        }
        let mut tries = 0;
        while let Err(error) = cluster.start().await {
            tries += 1;
            if tries == START_TRIES || !cluster.port_was_taken() {
                return Err(error);
            }
            cluster.port = free_port()?;
        }
        let port_file = cluster.folder.join("port");
        fs::write(&port_file, cluster.port.to_string()).map_err(Error::files(port_file))?;
        Ok(cluster)
    }

    async fn init(&self) -> Result<(), Error> {
        // Only a file, for a moment: a command line can be read by everybody.
        let password_file = self.folder.join("run/initial-password");
        write_secret(&password_file, &self.password)?;
        self.user.own(&password_file)?;
        let mut command = self.user.command(self.bin.join("initdb"), None);
        command
            .args(["--username", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8", "--no-sync", "--pgdata"])
            .arg(self.data_folder())
            .arg("--pwfile")
            .arg(&password_file)
            .current_dir(&self.folder);
        let outcome = run(command).await;
        fs::remove_file(&password_file).map_err(Error::files(password_file))?;
        outcome
    }

    /// Starts the server, on the same port and files each time, and waits until it answers.
    ///
    /// # Errors
    /// It ends at once or does not answer within a minute.
    pub async fn start(&mut self) -> Result<(), Error> {
        let since = Instant::now();
        loop {
            fs::write(self.log(), "").map_err(Error::files(self.log()))?;
            let mut server = self.spawn()?;
            while since.elapsed() < START_LIMIT && !server.has_ended() {
                if self.answers().await {
                    self.server = Some(server);
                    return Ok(());
                }
                sleep(LOOK_EVERY).await;
            }
            let tail = log_tail(&self.log());
            // After a SIGKILL the old sessions need a moment to notice; until then the files are not free.
            let files_in_use = tail.contains("shared memory block") || tail.contains("lock file");
            if !files_in_use || since.elapsed() > START_LIMIT {
                return Err(Error::NotReady { program: "Postgres", limit: START_LIMIT, tail });
            }
            sleep(LOOK_EVERY * 10).await;
        }
    }

    fn spawn(&self) -> Result<Keeper, Error> {
        let mut arguments = vec!["-D".into(), self.data_folder().into()];
        for setting in [
            format!("port={}", self.port),
            String::from("listen_addresses=127.0.0.1"),
            format!("unix_socket_directories={}", self.socket_folder()),
        ]
        .iter()
        .chain(&self.settings)
        {
            arguments.extend(["-c".into(), setting.into()]);
        }
        Keeper::start(&Server {
            user: &self.user,
            program: self.bin.join("postgres").as_os_str(),
            arguments,
            environment: vec![(String::from("LC_ALL"), String::from("C.UTF-8"))],
            folder: &self.folder,
            log: &self.log(),
            // Postgres calls this a fast shutdown.
            end_signal: Signal::SIGINT,
            grace_seconds: GRACE_SECONDS,
        })
    }

    /// The folder of the socket; none if its path is too long for one (107 bytes).
    fn socket_folder(&self) -> String {
        let folder = self.folder.join("run").to_string_lossy().into_owned();
        if folder.len() < 80 { folder } else { String::new() }
    }

    async fn answers(&self) -> bool {
        self.config(SUPERUSER, SUPERUSER, &self.password).connect(NoTls).await.is_ok()
    }

    fn port_was_taken(&self) -> bool {
        log_tail(&self.log()).contains("could not bind")
            || log_tail(&self.log()).contains("could not create any TCP/IP sockets")
    }

    /// Stops the server and waits for its end. The files stay.
    ///
    /// # Errors
    /// It has not ended within a minute.
    pub async fn stop(&mut self, how: Stop) -> Result<(), Error> {
        let signal = match how {
            Stop::Fast => Signal::SIGINT,
            Stop::Immediate => Signal::SIGQUIT,
            Stop::Kill => Signal::SIGKILL,
        };
        match self.server.take() {
            Some(server) => server.end("Postgres", signal, STOP_LIMIT).await,
            None => Ok(()),
        }
    }

    /// Stops the server and, of a throw-away cluster, removes the files; waits for both.
    ///
    /// # Errors
    /// It has not ended within a minute, or the files are still there after another.
    pub async fn remove(mut self) -> Result<(), Error> {
        self.stop(Stop::Fast).await?;
        match self.guard.take() {
            Some(guard) => guard.remove(STOP_LIMIT).await,
            None => Ok(()),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's.
    pub fn password(&self) -> &str {
        &self.password
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where the server writes its log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The server's process id; `None` while it is stopped.
    pub fn pid(&self) -> Option<i32> {
        self.server.as_ref().map(|server| server.pid().as_raw())
    }

    /// How to reach a database as a user.
    pub fn config(&self, database: &str, user: &str, password: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).dbname(database).user(user).password(password);
        config.connect_timeout(Duration::from_secs(10));
        config
    }

    /// The same for programs that want a URL. Names and passwords made here need no escaping.
    pub fn url(&self, database: &str, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// A database's URL for the superuser.
    pub fn superuser_url(&self, database: &str) -> String {
        self.url(database, SUPERUSER, &self.password)
    }

    /// A session of the superuser; it ends with the client.
    ///
    /// # Errors
    /// The server is not there or says no.
    pub async fn connect(&self, database: &str) -> Result<tokio_postgres::Client, Error> {
        let (client, connection) = self
            .config(database, SUPERUSER, &self.password)
            .connect(NoTls)
            .await
            .map_err(|source| Error::Sql { database: database.into(), source })?;
        // A connection that breaks is told to whoever uses the client.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// Runs statements as the superuser; answers the rows of all of them, each value as text.
    ///
    /// # Errors
    /// The server is not there or says no.
    pub async fn sql(&self, database: &str, text: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
        let client = self.connect(database).await?;
        let messages = client
            .simple_query(text)
            .await
            .map_err(|source| Error::Sql { database: database.into(), source })?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|at| row.get(at).map(String::from)).collect())
                }
                _ => None,
            })
            .collect())
    }

    /// A new role that can log in, and an empty database of its own.
    ///
    /// # Errors
    /// One of them is there already; or as [`Cluster::sql`].
    pub async fn create_database(
        &self,
        database: &str,
        owner: &str,
        password: &str,
    ) -> Result<(), Error> {
        let role = format!("create role {owner} login password '{password}'");
        self.sql(SUPERUSER, &role).await?;
        // Not in one message: a database cannot be made inside a transaction.
        self.sql(SUPERUSER, &format!("create database {database} owner {owner}")).await?;
        Ok(())
    }

    /// Runs the SQL of a dump with `psql`, as a user.
    ///
    /// # Errors
    /// A statement fails.
    pub async fn restore(
        &self,
        database: &str,
        user: &str,
        password: &str,
        dump: &Path,
    ) -> Result<(), Error> {
        let file = fs::File::open(dump).map_err(Error::files(dump))?;
        let mut command = self.client_program("psql", database, user, password);
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"]).stdin(file);
        run(command).await
    }

    /// Writes a database to a file of SQL, without owners and rights.
    ///
    /// # Errors
    /// `pg_dump` fails.
    pub async fn dump(&self, database: &str, file: &Path) -> Result<(), Error> {
        let mut command = self.client_program("pg_dump", database, SUPERUSER, &self.password);
        command.args(["--no-owner", "--no-acl", "--file"]).arg(file);
        run(command).await
    }

    /// One of Postgres's client programs, told how to connect by its environment.
    fn client_program(&self, program: &str, database: &str, user: &str, password: &str) -> Command {
        // Postgres 18's programs come without psql; any version's will do.
        let in_bin = self.bin.join(program);
        let mut command =
            if in_bin.is_file() { Command::new(in_bin) } else { Command::new(program) };
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGDATABASE", database)
            .env("PGUSER", user)
            .env("PGPASSWORD", password);
        command
    }
}

/// Runs a command to its end without blocking the other tasks.
async fn run(mut command: Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let name = program.clone();
    let output = spawn_blocking(move || {
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?.wait_with_output()
    })
    .await
    .unwrap_or_else(|error| Err(std::io::Error::other(error)))
    .map_err(|source| Error::Spawn { program, source })?;
    if output.status.success() {
        Ok(())
    } else {
        let tail = String::from_utf8_lossy(&output.stderr).trim_end().to_string();
        Err(Error::Failed { program: name, tail })
    }
}

/// A secret that is kept in a file, made at the first look.
pub(super) fn kept_secret(file: &Path) -> Result<String, Error> {
    if let Ok(secret) = fs::read_to_string(file) {
        return Ok(secret);
    }
    let secret = secret();
    write_secret(file, &secret)?;
    Ok(secret)
}

/// Writes a file that only its owner can read.
fn write_secret(file: &Path, secret: &str) -> Result<(), Error> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(secret.as_bytes()))
        .map_err(Error::files(file))
}
