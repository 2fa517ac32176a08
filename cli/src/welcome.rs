//! What a start prints for people: the DSN, a line to try it, a snippet for Electron.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use shared::config::Config;
use shared::id::{ProjectId, PublicKey};

/// A small dump to try things with.
const SAMPLE_DUMP: &[u8] = include_bytes!("sample.dmp");

/// Lays the sample dump beside the data, and prints how to send it and others to this process.
///
/// # Errors
/// What the file system said about the sample.
pub(crate) fn print(config: &Config, made_key: bool) -> std::io::Result<()> {
    let sample = config.data.dir.join("sample.dmp");
    if !sample.exists() {
        std::fs::write(&sample, SAMPLE_DUMP)?;
    }
    println!("crashferry {}\n", env!("CARGO_PKG_VERSION"));
    for project in &config.projects {
        if let Some(key) = project.keys.iter().find(|key| !key.disabled) {
            println!(
                "{}",
                instructions(config.relay.listen, project.id, &key.key, &sample)
            );
        }
    }
    if made_key {
        println!(
            "The key was made at the first start and is kept in {}.",
            config.data.dir.display()
        );
    }
    println!(
        "Health and metrics: http://{}/",
        reachable(config.admin.listen)
    );
    Ok(())
}

fn instructions(listen: SocketAddr, project: ProjectId, key: &PublicKey, sample: &Path) -> String {
    let (host, sample) = (reachable(listen), sample.display());
    let dsn = dsn(listen, project, key);
    let key = key.as_str();
    let url = format!("http://{host}/api/{project}/minidump/?sentry_key={key}");
    format!(
        "Project {project}\n  \
           DSN       {dsn}\n  \
           try it    curl -F upload_file_minidump=@{sample} '{url}'\n  \
           status    curl 'http://{host}/api/{project}/events/EVENT_ID/?sentry_key={key}'\n  \
           Electron  crashReporter.start({{ submitURL: '{url}' }})\n"
    )
}

/// What clients are configured with, as this machine reaches the relay.
pub(crate) fn dsn(listen: SocketAddr, project: ProjectId, key: &PublicKey) -> String {
    format!("http://{}@{}/{project}", key.as_str(), reachable(listen))
}

/// The address as this machine's programs reach it.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}
