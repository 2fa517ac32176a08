//! Clients that want to stop a relay with little traffic: they hold what is scarce, send next to nothing, and come back at
//! once when they are cut off. One thread plays them all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

/// How often a slow body gets something.
const DRIP: Duration = Duration::from_secs(1);
/// What it gets.
const DRIP_BYTES: usize = 300;
/// Before an attacker that was cut off comes back.
const PAUSE: Duration = Duration::from_millis(200);

/// What an attacker does on each of its connections.
#[derive(Clone, Debug)]
pub enum Manner {
    /// HTTP/2 with so many slow requests.
    Http2 {
        /// Requests at once.
        streams: usize,
        /// What each is.
        request: Slow,
    },
    /// HTTP/1.1 with one slow request after the other.
    Http1(Slow),
    /// A connection on which nothing is ever said.
    Silence,
}

/// A request whose body does not end, or one that is whole.
#[derive(Clone, Debug)]
pub struct Slow {
    /// Path and query.
    pub path: String,
    /// Headers beside those of every request.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent of the body at once.
    pub opening: Bytes,
    /// Whether more comes, slowly.
    pub drips: bool,
}

/// Attackers at work; they leave when this is dropped.
pub struct Attackers {
    leave: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<Counts>,
}

/// What the attackers met with.
#[derive(Debug, Default)]
struct Counts {
    connected: AtomicU64,
    answered: AtomicU64,
    accepted: AtomicU64,
}

impl Attackers {
    /// Lets so many connections of each manner begin.
    pub fn start(address: &str, attackers: &[(Manner, usize)]) -> Self {
        let (leave, left) = oneshot::channel();
        let counts = Arc::new(Counts::default());
        let all: Vec<Manner> = attackers
            .iter()
            .flat_map(|(manner, count)| std::iter::repeat_n(manner.clone(), *count))
            .collect();
        let thread = {
            let (address, counts) = (address.to_owned(), Arc::clone(&counts));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.expect("a runtime").block_on(async {
                    let mut tasks = JoinSet::new();
                    for manner in all {
                        tasks.spawn(attack(address.clone(), manner, Arc::clone(&counts)));
                    }
                    // The sender goes away with the attackers.
                    assert!(left.await.is_err(), "nobody sends");
                })
            })
        };
        Self {
            leave: Some(leave),
            thread: Some(thread),
            counts,
        }
    }

    /// Connections that were made, answers that came, and how many of those were 200.
    pub fn counts(&self) -> (u64, u64, u64) {
        let Counts {
            connected,
            answered,
            accepted,
        } = &*self.counts;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(connected), count(answered), count(accepted))
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        drop(self.leave.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the attackers panicked"
            );
        }
    }
}

impl Counts {
    fn answered(&self, status: u16) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if status == 200 {
            self.accepted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One attacker, whose connections end in any way they like.
async fn attack(address: String, manner: Manner, counts: Arc<Counts>) {
    loop {
        if let Ok(stream) = TcpStream::connect(&address).await {
            counts.connected.fetch_add(1, Ordering::Relaxed);
            match &manner {
                Manner::Http2 { streams, request } => {
                    http2(stream, *streams, request, &counts).await;
                }
                Manner::Http1(request) => http1(stream, request, &counts).await,
                Manner::Silence => silence(stream).await,
            }
        }
        sleep(PAUSE).await;
    }
}

async fn silence(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}

async fn http1(stream: TcpStream, request: &Slow, counts: &Counts) {
    let length = if request.drips {
        20_000_000
    } else {
        request.opening.len()
    };
    let mut head = format!(
        "POST {} HTTP/1.1\r\nHost: crashes\r\nContent-Length: {length}\r\n",
        request.path
    );
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let (mut read, mut write) = stream.into_split();
    let sends = async {
        write.write_all(head.as_bytes()).await?;
        write.write_all(&request.opening).await?;
        let mut drips = interval(DRIP);
        loop {
            drips.tick().await;
            if request.drips {
                write.write_all(&[b'x'; DRIP_BYTES]).await?;
            }
        }
    };
    let mut answer = Vec::new();
    let receives = async {
        let mut buffer = [0; 1024];
        loop {
            match read.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => answer.extend_from_slice(&buffer[..bytes]),
            }
            if answer.windows(4).any(|end| end == b"\r\n\r\n") {
                return;
            }
        }
    };
    tokio::select! {
        sent = sends => drop::<std::io::Result<()>>(sent),
        () = receives => {}
    }
    let status = answer
        .get(9..12)
        .and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    if let Some(status) = status {
        counts.answered(status);
    }
}

async fn http2(stream: TcpStream, streams: usize, request: &Slow, counts: &Arc<Counts>) {
    let Ok((client, connection)) = h2::client::handshake(stream).await else {
        return;
    };
    let mut requests = JoinSet::new();
    for _ in 0..streams {
        let (client, request, counts) = (client.clone(), request.clone(), Arc::clone(counts));
        requests.spawn(async move {
            while http2_request(client.clone(), &request, &counts)
                .await
                .is_ok()
            {}
        });
    }
    drop(client);
    if connection.await.is_err() {
        requests.abort_all();
    }
}

async fn http2_request(
    client: SendRequest<Bytes>,
    request: &Slow,
    counts: &Counts,
) -> Result<(), h2::Error> {
    let mut client = client.ready().await?;
    let mut head = http::Request::post(format!("http://crashes{}", request.path));
    for (name, value) in &request.headers {
        head = head.header(*name, value);
    }
    let head = head.body(()).expect("a request");
    let (mut answer, mut body) = client.send_request(head, false)?;
    body.send_data(request.opening.clone(), false)?;
    let mut drips = interval(DRIP);
    loop {
        tokio::select! {
            answer = &mut answer => {
                counts.answered(answer?.status().as_u16());
                sleep(PAUSE).await;
                return Ok(());
            }
            _ = drips.tick() => {
                // What flow control holds back stays with the client: it sends no more than that.
                if request.drips && body.capacity() == 0 {
                    body.reserve_capacity(DRIP_BYTES);
                }
                if request.drips && body.capacity() >= DRIP_BYTES {
                    body.send_data(Bytes::from_static(&[b'x'; DRIP_BYTES]), false)?;
                }
            }
        }
    }
}
