//! A child process that cannot outlive its test: killed on drop, and by the kernel when the thread that started it dies.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Lines of a log that are shown when the test that owns the process fails.
const TAIL_LINES: usize = 60;

/// A running child, its name and its log file (standard output and error together).
pub struct Process {
    name: String,
    frozen: Vec<Pid>,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments` and `environment`, appending its output to `log`.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(String, String)],
        log: &Path,
    ) -> Self {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file can be opened");
        let err = out.try_clone().expect("a log file can be shared");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self {
            name: name.to_owned(),
            frozen: Vec::new(),
            child,
            log: log.to_owned(),
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a killed child can be waited for");
        self.end_frozen();
    }

    /// Frozen children do not notice that their parent is gone.
    fn end_frozen(&mut self) {
        for child in self.frozen.drain(..) {
            // It may have been thawed and have ended.
            kill_process(child, Signal::KILL).ok();
        }
    }

    /// Sends SIGTERM and waits for the exit, at most `deadline`.
    pub fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let name = self.name.clone();
        wait::until(&format!("{name} to stop after SIGTERM"), deadline, || {
            self.exited().ok_or_else(|| "still running".to_owned())
        })
    }

    /// Stops the process in place (SIGSTOP): it keeps its connections and answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Stops the children of the process in place (SIGSTOP) and says how many there are. They die with it.
    pub fn freeze_children(&mut self) -> usize {
        let children = self.children();
        for child in &children {
            kill_process(*child, Signal::STOP).expect("a child can be stopped");
            self.frozen.push(*child);
        }
        children.len()
    }

    /// Kills the children of the process (SIGKILL).
    pub fn kill_children(&self) {
        for child in self.children() {
            // It may have ended since.
            kill_process(child, Signal::KILL).ok();
        }
    }

    fn children(&self) -> Vec<Pid> {
        let tasks = format!("/proc/{}/task", self.id());
        let tasks = fs::read_dir(&tasks).unwrap_or_else(|error| panic!("{tasks}: {error}"));
        let lists = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<i32> = lists
            .flat_map(|list| {
                let numbers = list.split_whitespace().map(str::parse);
                numbers
                    .map(|id| id.expect("a process id"))
                    .collect::<Vec<_>>()
            })
            .collect();
        children.into_iter().filter_map(Pid::from_raw).collect()
    }

    /// The exit status, when the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// The resident memory now, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The largest resident memory so far, in bytes.
    pub fn memory_peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// What the process has had of the processors, and what its children have, the ended ones among them.
    pub fn processor_time(&self) -> (Duration, Duration) {
        let own = processor_times(self.id());
        let children = self.children().into_iter();
        let living: Duration = children
            .map(|child| processor_times(child.as_raw_nonzero().get().unsigned_abs()).0)
            .sum();
        (own.0, own.1 + living)
    }

    fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))
            .unwrap_or_else(|error| panic!("{} is not running: {error}", self.name));
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("/proc/…/status has {name}"));
        let kib = line.trim().trim_end_matches(" kB").trim();
        kib.parse::<u64>().expect("a number of kB") * 1024
    }

    /// Everything the process has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of the log, under a heading with the process's name.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        format!("--- {} ---\n{}\n", self.name, lines[from..].join("\n"))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a process id"), signal)
            .unwrap_or_else(|error| panic!("{} cannot be signalled: {error}", self.name));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            // Already past the point where a failure could be reported; the kernel's death signal is the second net.
            if self.child.kill().is_ok() {
                self.child.wait().ok();
            }
        }
        self.end_frozen();
    }
}

/// In which Linux counts time for programs to see, whatever its own clock does.
const TICKS_PER_SECOND: u64 = 100;

/// What a process has had of the processors, and what its children had that have ended; nothing when it has ended itself.
fn processor_times(id: u32) -> (Duration, Duration) {
    let line = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name before it may hold anything, brackets too.
    let fields = line.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: Vec<u64> = fields
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    let [user, system, children_user, children_system] = match ticks.get(11..15) {
        Some(ticks) => [ticks[0], ticks[1], ticks[2], ticks[3]],
        None => [0; 4],
    };
    let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    (time(user + system), time(children_user + children_system))
}
