//! What a start prints for people: the DSN, a line to try it, a snippet for Electron.

use std::net::{IpAddr, SocketAddr};

use shared::config::Config;
use shared::id::{ProjectId, PublicKey};

/// Prints how to send crashes to this process.
pub(crate) fn print(config: &Config, made_key: bool) {
    println!("crashferry is ready.\n");
    for project in &config.projects {
        if let Some(key) = project.keys.first() {
            println!("{}", instructions(config.relay.listen, project.id, key));
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
}

fn instructions(listen: SocketAddr, project: ProjectId, key: &PublicKey) -> String {
    let (host, key) = (reachable(listen), key.as_str());
    let url = format!("http://{host}/api/{project}/minidump/?sentry_key={key}");
    format!(
        "Project {project}\n  \
           DSN       http://{key}@{host}/{project}\n  \
           try it    curl -F upload_file_minidump=@crash.dmp '{url}'\n  \
           Electron  crashReporter.start({{ submitURL: '{url}' }})\n  \
           status    curl 'http://{host}/api/{project}/events/EVENT_ID/?sentry_key={key}'\n"
    )
}

/// The address as this machine's programs reach it.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
