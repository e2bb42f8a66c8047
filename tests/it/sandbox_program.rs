//! `plait sandbox`, the built program, running for one test.

use std::process::Stdio;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// The program and the address that it told. Dropped, it is killed.
pub(crate) struct Program {
    pub(crate) url: String,
    child: Child,
}

impl Program {
    /// Starts it on a free port, without limits, and waits until it answers.
    pub(crate) async fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plait"))
            .args(["sandbox", "--listen", "127.0.0.1:0", "--no-limits"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.next_line().await.unwrap().expect("it ended before it told its address");
        let address = told.split_once("http://").expect("its first line has the address").1;
        let url = format!("http://{}", address.split_once(": ").unwrap().0);
        // What else it tells is read, so that it never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { url, child }
    }

    /// A call to its control API.
    pub(crate) async fn look(&self, path: &str) -> Value {
        let answer = http().get(format!("{}/sandbox/{path}", self.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    /// Asks it to end, as Ctrl-C does, and waits until it has.
    pub(crate) async fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().unwrap().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), self.child.wait());
        assert!(ended.await.expect("it did not end when asked").unwrap().success());
    }
}

/// A client of HTTP. It installs the process's cryptography first, which reqwest asks for even without TLS.
pub(crate) fn http() -> reqwest::Client {
    // Another test may have been first; either way there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::new()
}
