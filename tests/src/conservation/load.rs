//! Clients that upload at a steady pace until they are told to stop, and write down every answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Scale;
use super::tally::{Tally, Upload};
use crate::stack::Stack;
use crate::{environment, wait};

/// How long a client waits for a relay that went away, and a test for answers.
const DEADLINE: Duration = Duration::from_secs(60);

/// How much comes in.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Clients that upload at the same time.
    pub clients: u32,
    /// Uploads that all of them together start in a second, as long as they are answered quickly.
    pub per_second: u32,
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    seed: u64,
    listen: String,
    interval: Duration,
    started: Instant,
    stop: AtomicBool,
    tally: Mutex<Tally>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            clients: 4,
            per_second: 20,
        }
    }
}

impl Load {
    /// Sends the clients to work at the stack's relay.
    pub fn start(scale: &Scale, stack: &Stack, shape: Shape) -> Self {
        let shared = Arc::new(Shared {
            seed: scale.seed(),
            listen: stack.listen().to_owned(),
            interval: Duration::from_secs(1) * shape.clients / shape.per_second,
            started: Instant::now(),
            stop: AtomicBool::new(false),
            tally: Mutex::default(),
        });
        let clients = (0..shape.clients)
            .map(|client| {
                let shared = Arc::clone(&shared);
                // Evenly spread over the interval.
                let first = shared.started + shared.interval * client / shape.clients;
                thread::spawn(move || shared.run(client, first))
            })
            .collect();
        Self { shared, clients }
    }

    /// Time since the load began.
    pub fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// The answers so far.
    pub fn so_far(&self) -> Tally {
        self.shared.tally().clone()
    }

    /// Waits until `count` more uploads were promised.
    pub fn more_promises(&self, count: usize) {
        let before = self.shared.tally().promises.len();
        wait::until("more answers with 200", DEADLINE, || {
            let more = self.shared.tally().promises.len() - before;
            match more >= count {
                true => Ok(()),
                false => Err(format!("{more} of {count}")),
            }
        });
    }

    /// Lets every client finish its upload, and gives back all answers.
    pub fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("a client read every answer");
        }
        std::mem::take(&mut *self.shared.tally())
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// One client: upload after upload, and after a broken connection or a refusal the next one.
    fn run(&self, client: u32, first: Instant) {
        let mut next = first;
        for number in 0.. {
            wait::lasting_until(next);
            if self.stopped() {
                return;
            }
            // Who was kept waiting does not catch up.
            next = (next + self.interval).max(Instant::now());
            self.upload(upload(self.seed, u64::from(client), number));
        }
    }

    fn upload(&self, upload: Upload) {
        let at = self.started.elapsed();
        let answer = upload.post(&self.listen);
        let latency = self.started.elapsed() - at;
        let broken = answer.is_err();
        self.tally().enter(upload, at, latency, answer);
        if broken {
            wait::until_true("the relay to be back", DEADLINE, || {
                self.stopped() || environment::answers(&self.listen)
            });
        }
    }
}

/// What a client sends next: mostly small dumps, now and then one of several chunks.
fn upload(seed: u64, client: u64, number: u64) -> Upload {
    let seed = mix(mix(seed ^ (client << 48)) ^ number);
    let bytes = match seed % 100 {
        0..3 => 2_500_000,
        3..10 => 1_200_000,
        other => 20_000 + other * 400,
    };
    Upload {
        seed,
        bytes: usize::try_from(bytes).expect("a size fits"),
    }
}

/// splitmix64's finaliser: neighbouring numbers get unrelated ones.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
