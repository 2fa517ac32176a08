//! An S3 server of the tests' own: s3s's over a directory, which checks signatures and keeps each object as a file.

use std::net::Ipv4Addr;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const USAGE: &str = "usage: s3-server PORT DIRECTORY ACCESS-KEY SECRET-KEY";

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, directory, access, secret] = &words[..] else {
        panic!("{USAGE}")
    };
    let port: u16 = port.parse().expect(USAGE);
    let files = FileSystem::new(directory).expect("a directory for the buckets");
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(access.clone(), secret.clone()));
    let service = service.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.expect("the port is free");
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("connections come in");
        let service = service.clone();
        connections.spawn(async move {
            let server = Builder::new(TokioExecutor::new());
            // A client that goes away is none of the server's trouble.
            server
                .serve_connection(TokioIo::new(socket), service)
                .await
                .ok();
        });
        while connections.try_join_next().is_some() {}
    }
}
