//! How fast the pool parses, beside a loop over the same dumps with the rust-minidump library on as many threads.
//!
//! `cargo run --release -p crashferry-processor --example parse_throughput -- [SECONDS] [FILE…]`: with files, their
//! dumps too.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use minidump::Minidump;
use minidump_unwind::MultiSymbolProvider;
use processor::parser::{Attempts, ParserPool, ParserSettings, WORKER_SUBCOMMAND, worker_main};
use shared::config::ProcessorConfig;
use shared::content::Content;
use shared::id::ProjectId;

#[path = "../tests/dumps/mod.rs"]
mod dumps;

use dumps::{SMALL, Shape, System};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let first = words.next();
    if first.as_deref() == Some(WORKER_SUBCOMMAND) {
        return worker_main();
    }
    let seconds = first.and_then(|word| word.parse().ok()).unwrap_or(2);
    let time = Duration::from_secs(seconds);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} threads and {cores} workers, dumps per second:");
    for (name, dump) in samples().into_iter().chain(words.map(|path| {
        let dump = std::fs::read(&path).expect("a dump can be read");
        (path, dump)
    })) {
        let dump = Bytes::from(dump);
        let walk = on_threads(cores, time, || library(&dump, false));
        let json = on_threads(cores, time, || library(&dump, true));
        let pool = through_pool(cores, time, &dump);
        println!(
            "{name}, {} bytes: library {walk:.0}, library with its JSON {json:.0}, pool {pool:.0} ({:.0} % and {:.0} %)",
            dump.len(),
            100.0 * pool / walk,
            100.0 * pool / json
        );
    }
    ExitCode::SUCCESS
}

fn samples() -> Vec<(String, Vec<u8>)> {
    let desktop = Shape {
        other_threads: 40,
        other_modules: 150,
        stack_words: 256,
    };
    let mut padded = dumps::crash(System::Linux, desktop);
    padded.resize(1_000_000, 0x5a);
    let mut samples: Vec<(String, Vec<u8>)> = System::ALL
        .map(|system| (format!("small {system:?}"), dumps::crash(system, SMALL)))
        .into();
    samples.push(("desktop".into(), dumps::crash(System::Linux, desktop)));
    samples.push(("desktop, padded".into(), padded));
    samples
}

fn library(dump: &Bytes, with_json: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let container = Minidump::read(&dump[..]).expect("readable");
    let symbols = MultiSymbolProvider::new();
    let walk = minidump_processor::process_minidump(&container, &symbols);
    let state = runtime.block_on(walk).expect("readable");
    if with_json {
        let mut json = Vec::new();
        state.print_json(&mut json, false).expect("is written");
        std::hint::black_box(json);
    }
}

fn on_threads(threads: usize, time: Duration, work: impl Fn() + Sync) -> f64 {
    let clock = Instant::now();
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while clock.elapsed() < time {
                    work();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    done.into_inner() as f64 / clock.elapsed().as_secs_f64()
}

fn through_pool(workers: usize, time: Duration, dump: &Bytes) -> f64 {
    let settings = ParserSettings {
        workers,
        ..ParserSettings::new(&ProcessorConfig::default()).expect("this program has a path")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let pool = ParserPool::start(settings);
        let project = ProjectId::new(1);
        let done = AtomicUsize::new(0);
        let clock = Instant::now();
        // Twice the workers: the next dump waits while one is parsed, as intake does.
        join_all((0..workers * 2).map(|_| async {
            while clock.elapsed() < time {
                let dump = Content::from(dump.clone());
                let first = Attempts::new(|| std::future::ready(1));
                let parsed = pool
                    .parse(project, &dump, &first)
                    .await
                    .expect("the pool works");
                parsed.last.result.expect("readable");
                done.fetch_add(1, Ordering::Relaxed);
            }
        }))
        .await;
        pool.stop().await;
        done.into_inner() as f64 / clock.elapsed().as_secs_f64()
    })
}
