#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}
pub(super) async fn run(_a: Arguments, _s: tokio_util::sync::CancellationToken) -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("not merged") }
