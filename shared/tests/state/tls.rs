//! `rediss://`: TLS needs cryptography that the program was built with.

use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use shared::state::StateError;

use crate::Store;

#[tokio::test]
async fn a_redis_over_tls_is_greeted_as_such() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    // Whoever comes is sent away again, which a greeting in TLS calls by its name.
    let closing = thread::spawn(move || drop(listener.accept()));
    let store = Store::redis(&format!("rediss://127.0.0.1:{port}")).await;
    closing.join().expect("somebody came");
    let error = store.state.ledger().await.expect_err("nobody answers");
    let StateError::Away(why) = &error else {
        panic!("{error}")
    };
    assert!(!why.contains("stopped"), "the connecting task lives: {why}");
    store.state.shutdown().await;
}
