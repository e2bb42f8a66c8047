//! `plait demo`: a real Directus on its own Postgres, the Airtable sandbox, a canonical Postgres, and a mirror
//! between them, on this machine alone.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    process::{Child, Command},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::terminal::{Paint, say};
use crate::{
    demo::{
        cache,
        cluster::{Cluster, Stop},
        model, seed,
        source::{Secrets, Source},
    },
    sandbox::{MIRROR_TOKEN, NETWORK_BASE},
};

/// Starts everything on free ports of this machine, shows where it is, and mirrors until Ctrl-C. What you edit is
/// kept for the next time; `--fresh` begins anew.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the demo keeps its data [default: `demo` in the cache folder]
    #[arg(long, value_name = "FOLDER", env = "PLAIT_DEMO")]
    folder: Option<PathBuf>,
    /// Throw away what an earlier demo kept
    #[arg(long)]
    fresh: bool,
    /// Port of the sandbox's page
    #[arg(long, default_value_t = 0, value_name = "PORT", hide_default_value = true)]
    sandbox_port: u16,
}

const DIRECTUS_DATABASE: &str = "directus";
const CANONICAL_DATABASE: &str = "plait";
/// Between two looks at a child.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(arguments: Arguments, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let folder = arguments.folder.unwrap_or_else(|| cache::folder().join("demo"));
    if arguments.fresh && folder.join("plait.toml").exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("could not remove {}", folder.display()))?;
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&folder)
        .with_context(|| format!("could not make {}", folder.display()))?;
    let bin = cache::postgres_bin()?;
    say("starting two Postgres servers …")?;
    let mut canonical = Cluster::in_folder(&bin, &folder.join("canonical"), &[]).await?;
    let mut directus = Cluster::in_folder(
        &bin,
        &folder.join("directus"),
        &["wal_level=logical", "max_slot_wal_keep_size=2GB"],
    )
    .await?;
    let outcome =
        with_clusters(&folder, arguments.sandbox_port, &canonical, &directus, &stop).await;
    say("stopping …")?;
    let (first, second) = (directus.stop(Stop::Fast).await, canonical.stop(Stop::Fast).await);
    outcome?;
    first?;
    second?;
    Ok(ExitCode::SUCCESS)
}

async fn with_clusters(
    folder: &Path,
    sandbox_port: u16,
    canonical: &Cluster,
    directus: &Cluster,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let password = crate::demo::secret();
    let is_known = format!("select from pg_database where datname = '{CANONICAL_DATABASE}'");
    if canonical.sql("postgres", &is_known).await?.is_empty() {
        canonical.create_database(CANONICAL_DATABASE, CANONICAL_DATABASE, &password).await?;
    } else {
        let change = format!("alter role {CANONICAL_DATABASE} password '{password}'");
        canonical.sql("postgres", &change).await?;
    }
    // So that `plait setup roles` and `plait setup reader` work here as they do at home.
    let makes_roles = format!("alter role {CANONICAL_DATABASE} createrole");
    canonical.sql("postgres", &makes_roles).await?;
    let filled = folder.join("directus-is-filled");
    say(if filled.exists() {
        "starting Directus …"
    } else {
        "starting Directus; the first time this takes a minute …"
    })?;
    let mut source = Source::start(directus, DIRECTUS_DATABASE, &Secrets::new()).await?;
    if !filled.exists() {
        let model = model::from_mapping(model::MAPPING)?;
        say("filling Directus with a part of the network …")?;
        seed::fill(&model, &source.admin_rest()).await?;
        fs::write(&filled, "")?;
    }
    let outcome = with_directus(folder, sandbox_port, canonical, &source, &password, stop).await;
    let stopped = source.server.stop().await;
    outcome?;
    Ok(stopped?)
}

async fn with_directus(
    folder: &Path,
    sandbox_port: u16,
    canonical: &Cluster,
    source: &Source,
    password: &str,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (mut sandbox, sandbox_url) = start_sandbox(folder, sandbox_port).await?;
    let secrets = folder.join("secrets");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&secrets)?;
    write_secret(&secrets.join("canonical"), password)?;
    write_secret(&secrets.join("directus"), &source.capture.password)?;
    write_secret(&secrets.join("directus-push"), &source.push_token)?;
    write_secret(&secrets.join("airtable"), MIRROR_TOKEN)?;
    let config = folder.join("plait.toml");
    fs::write(folder.join("mapping.toml"), model::prompt_mapping())?;
    let pings = ping_address(folder).await?;
    fs::write(&config, settings(canonical, source, &sandbox_url, pings))?;
    let outcome = mirror(&config, canonical, source, &sandbox_url, stop).await;
    end(&mut sandbox).await;
    outcome
}

/// The sandbox as a process of its own, so that the mirror may be killed without it.
async fn start_sandbox(folder: &Path, port: u16) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["sandbox", "--listen", &format!("127.0.0.1:{port}"), "--state"])
        .arg(folder.join("sandbox.json"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(folder.join("sandbox.log"))?)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("could not start the sandbox")?;
    let mut output = child.stdout.take().context("the sandbox has no output")?;
    let said = tokio::time::timeout(PATIENCE, async {
        let mut said = String::new();
        let mut buffer = [0; 1024];
        while !said.contains(": open it") {
            let count = output.read(&mut buffer).await?;
            anyhow::ensure!(
                count > 0,
                "the sandbox ended; {} says why",
                folder.join("sandbox.log").display()
            );
            said.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
        }
        Ok(said)
    })
    .await
    .context("the sandbox did not start in time")??;
    // Whoever writes to a pipe that nobody holds is ended by it.
    tokio::spawn(async move { drop(tokio::io::copy(&mut output, &mut tokio::io::sink()).await) });
    let url = said.split_whitespace().find(|word| word.starts_with("http"));
    let url = url.context("the sandbox did not say where it is")?.trim_end_matches(':').to_owned();
    Ok((child, url))
}

fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    fs::write(path, secret)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

/// Where the mirror hears the sandbox's pings: the same place each time, if it is free, since the webhook knows it.
async fn ping_address(folder: &Path) -> anyhow::Result<SocketAddr> {
    let file = folder.join("ping-address");
    let kept = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    let mut listener = None;
    if let Some(address) = kept {
        listener = TcpListener::bind::<SocketAddr>(address).await.ok();
    }
    let listener = match listener {
        Some(listener) => listener,
        None => TcpListener::bind("127.0.0.1:0").await.context("could not find a free port")?,
    };
    let address = listener.local_addr()?;
    fs::write(&file, address.to_string())?;
    Ok(address)
}

fn settings(canonical: &Cluster, source: &Source, sandbox_url: &str, pings: SocketAddr) -> String {
    let capture = &source.capture;
    format!(
        r#"# Made by `plait demo`; made again at each start.
mapping = "mapping.toml"

[canonical]
url = "postgres://{CANONICAL_DATABASE}@127.0.0.1:{}/{CANONICAL_DATABASE}"
password_file = "secrets/canonical"
tls = "disable"

[directus]
database_url = "postgres://{}@127.0.0.1:{}/{}"
password_file = "secrets/directus"
tls = "disable"
api_url = "{api_url}"
token_file = "secrets/directus-push"

[airtable]
api_url = "{sandbox_url}"
token_file = "secrets/airtable"
poll_interval_max_ms = 2000
ping_listen = "{pings}"

[airtable.base.reseau]
id = "{NETWORK_BASE}"
notification_url = "http://{pings}/airtable/reseau"
"#,
        canonical.port(),
        capture.user,
        capture.port,
        capture.database,
        api_url = source.server.url(),
    )
}

/// Once both sides are copied, shows the plan and accepts it: in the demo everybody wants to see it run both ways.
/// `true`: that is done, now or by an earlier demo.
async fn accept_plan(config: &Path, canonical: &Cluster) -> anyhow::Result<bool> {
    let counts = "select (select count(*) from mirror.approval), (select count(*) from mirror.position where position <> '')";
    // Before the first migration there is nothing to ask.
    let Ok(rows) = canonical.sql(CANONICAL_DATABASE, counts).await else { return Ok(false) };
    let counts: Vec<&str> =
        rows.first().into_iter().flatten().map(|count| count.as_deref().unwrap_or("0")).collect();
    match counts[..] {
        ["0", "2"] => {}
        ["0", _] => return Ok(false),
        _ => return Ok(true),
    }
    say("")?;
    say(
        "Both sides are copied. What either lacks, `plait plan` says; the demo accepts it for you with `plait approve --yes`:",
    )?;
    for arguments in [&["plan", "--first", "1"][..], &["approve", "--yes", "--as", "demo"]] {
        let status = Command::new(std::env::current_exe()?)
            .args(arguments)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .status()
            .await?;
        anyhow::ensure!(status.success(), "`plait {}` ended with {status}", arguments.join(" "));
    }
    Ok(true)
}

/// Keeps a `plait run` going; one that is killed is started again, and takes up where it was.
async fn mirror(
    config: &Path,
    canonical: &Cluster,
    source: &Source,
    sandbox_url: &str,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut is_first = true;
    let mut is_accepted = false;
    loop {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("could not start the mirror")?;
        let pid = child.id().unwrap_or_default();
        if is_first {
            is_first = false;
            welcome(config, canonical, source, sandbox_url, pid)?;
        } else {
            say(&format!("the mirror runs again, as process {pid}, from where it was"))?;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    end(&mut child).await;
                    return Ok(());
                }
                () = sleep(LOOK_EVERY) => {}
            }
            if !is_accepted {
                is_accepted = accept_plan(config, canonical).await?;
            }
            if let Some(status) = child.try_wait()? {
                use std::os::unix::process::ExitStatusExt;
                anyhow::ensure!(
                    status.signal().is_some(),
                    "the mirror ended by itself ({status}); its last words are above"
                );
                say(&format!("the mirror was killed ({status})"))?;
                break;
            }
        }
    }
}

/// Asks a child to end, and waits for it.
async fn end(child: &mut Child) {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    // Gone already: then there is nothing to ask.
    let _asked = pid.map(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM));
    if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
        drop(child.kill().await);
    }
}

fn welcome(
    config: &Path,
    canonical: &Cluster,
    source: &Source,
    sandbox_url: &str,
    pid: u32,
) -> anyhow::Result<()> {
    let paint = Paint::for_stdout();
    let program = std::env::current_exe()?;
    let (program, config) = (program.display(), config.display());
    let url = canonical.url(CANONICAL_DATABASE, CANONICAL_DATABASE, "");
    let url = url.replace(":@", "@");
    for line in [
        String::new(),
        paint.bold("Plait is mirroring. Edit on either side and watch it arrive on the other:"),
        format!(
            "  Directus Studio   {}   log in as {} with password {}",
            source.server.url(),
            source.admin.email,
            source.admin.password
        ),
        format!("  Airtable sandbox  {sandbox_url}   a grid; edits are made as a person"),
        String::new(),
        paint.bold("In other terminals:"),
        format!(
            "  {program} watch --config {config}      each change: time, who, side, record, field, before → after"
        ),
        format!("  {program} status --config {config}     how far each side has been read"),
        format!(
            "  {program} conflicts --config {config}  cells that both sides changed: README.md says how to make one"
        ),
        format!(
            "  {program} verify --config {config}     both live sides against canonical, cell by cell"
        ),
        format!(
            "  {program} reports --config {config}    what can be read and exported: portfolios, deal flow, …"
        ),
        format!("  {program} export portfolio_by_investor --config {config} -o portfolio.xlsx"),
        format!(
            "  PGPASSWORD=$(cat {}/secrets/canonical) psql {url}     then: select * from report.portfolio_by_startup;",
            config_folder(&config.to_string())
        ),
        format!(
            "  kill -9 {pid}     the mirror dies, starts again, and nothing is lost or doubled"
        ),
        String::new(),
        "Ctrl-C ends it all; what you edited is kept.".into(),
        String::new(),
    ] {
        say(&line)?;
    }
    Ok(())
}

fn config_folder(config: &str) -> String {
    Path::new(config).parent().map(|folder| folder.display().to_string()).unwrap_or_default()
}
