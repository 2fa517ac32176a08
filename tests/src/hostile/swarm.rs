//! A crowd of connections that one thread plays: each opens with some bytes, drips others, reads or does not, and comes again
//! when it was ended.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::drippers::raise_descriptors;

/// How often each of the crowd does something.
const ROUND: Duration = Duration::from_millis(500);
/// The crowd is served in as many parts, spread over a round.
const PARTS: usize = 10;

/// What one connection does.
#[derive(Clone, Debug)]
pub struct Attack {
    /// What it sends at once.
    pub opening: Vec<u8>,
    /// What it sends twice a second from then on.
    pub drip: Vec<u8>,
    /// Whether it reads what comes back.
    pub reads: bool,
}

/// A crowd at work; leaves when it is dropped.
pub struct Swarm {
    answers: Arc<Mutex<BTreeMap<String, usize>>>,
    leaves: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Attacker {
    attack: Attack,
    /// `None` between two connections.
    stream: Option<TcpStream>,
    answer: Vec<u8>,
}

impl Swarm {
    /// Connects `count` attackers to `address`, each with what `attack` says for its number.
    pub fn start(address: &str, count: usize, attack: impl Fn(usize) -> Attack) -> Self {
        raise_descriptors();
        let address = address.to_owned();
        let mut attackers: Vec<Attacker> = (0..count)
            .map(|number| Attacker {
                attack: attack(number),
                stream: None,
                answer: Vec::new(),
            })
            .collect();
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        let leaves = Arc::new(AtomicBool::new(false));
        let thread = {
            let (answers, leaves) = (Arc::clone(&answers), Arc::clone(&leaves));
            std::thread::spawn(move || {
                let mut part = 0;
                while !leaves.load(Ordering::Relaxed) {
                    for attacker in attackers.iter_mut().skip(part).step_by(PARTS) {
                        if let Some(status) = attacker.turn(&address) {
                            let mut answers =
                                answers.lock().unwrap_or_else(PoisonError::into_inner);
                            *answers.entry(status).or_insert(0) += 1;
                        }
                    }
                    part = (part + 1) % PARTS;
                    // The pace of the attack; nothing is being waited for.
                    std::thread::park_timeout(ROUND / PARTS as u32);
                }
            })
        };
        Self {
            answers,
            leaves,
            thread: Some(thread),
        }
    }

    /// How often each status came back so far.
    pub fn answers(&self) -> BTreeMap<String, usize> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.clone()
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.leaves.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the swarm panicked"
            );
        }
    }
}

impl Attacker {
    /// Goes on; the status of an answer that ended, when its connection did.
    fn turn(&mut self, address: &str) -> Option<String> {
        let Some(stream) = &mut self.stream else {
            self.stream = self.connect(address).ok();
            return None;
        };
        // What cannot be sent shows when it is read.
        drop(stream.write_all(&self.attack.drip));
        if !self.attack.reads {
            // Without reading it is not known whether the connection is over, but when it was reset.
            if matches!(stream.take_error(), Ok(Some(_))) {
                self.stream = None;
            }
            return None;
        }
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => self.answer.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => break,
            }
        }
        self.stream = None;
        let answer = std::mem::take(&mut self.answer);
        let line = String::from_utf8_lossy(&answer);
        let status = line.split_ascii_whitespace().nth(1).unwrap_or("none");
        Some(status.to_owned())
    }

    fn connect(&self, address: &str) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.attack.opening)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }
}
