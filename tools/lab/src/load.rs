//! Load for a network: a server and a client of new connections, of questions and answers, and of bulk,
//! each one thread with one conversation at a time, so that what a packet costs is what they wait for.
//!
//! Both run as processes in the namespaces that they are started in; the client's last word is
//! [`Done`] as JSON. Nothing here knows of pods.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// What the server says, with a line's end, when it can be talked to.
pub const READY: &str = "ready";
/// A conversation that hangs is over.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of one write of bulk.
const CHUNK: usize = 64 * 1024;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// A connection, one byte there and one back, and the end of it: again and again.
    Connections,
    /// One connection, one byte there and one back: again and again.
    Questions,
    /// One connection, as many bytes as go through.
    Bulk,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connections, Self::Questions, Self::Bulk];

    /// Its name on command lines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Questions => "questions",
            Self::Bulk => "bulk",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Connections => 5001,
            Self::Questions => 5002,
            Self::Bulk => 5003,
        }
    }
}

/// What a client did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Connections, questions or bytes.
    pub count: u64,
    /// In so many seconds.
    pub seconds: f64,
    /// Its own processor time, microseconds; what the kernel did with its packets included.
    pub cpu_us: f64,
    /// Half of the questions took so many microseconds or less.
    pub p50_us: f64,
    /// 99 of 100 did.
    pub p99_us: f64,
}

/// Answers for ever, on all addresses.
///
/// # Errors
/// A port is taken, or the kernel refuses.
pub fn serve(cpu: Option<usize>) -> io::Result<()> {
    stay_on(cpu)?;
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let listen = |work: Work| TcpListener::bind(SocketAddr::new(any, work.port()));
    let (connections, questions, bulk) = (
        listen(Work::Connections)?,
        listen(Work::Questions)?,
        listen(Work::Bulk)?,
    );
    println!("{READY}");
    // A client that goes away ends its conversation, never the server.
    std::thread::scope(|scope| {
        scope.spawn(|| each(&connections, answer_one));
        scope.spawn(|| each(&questions, answer_all));
        scope.spawn(|| each(&bulk, swallow));
    });
    Ok(())
}

fn each(listener: &TcpListener, talk: fn(TcpStream) -> io::Result<()>) {
    for stream in listener.incoming() {
        drop(stream.and_then(talk));
    }
}

fn answer_all(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// The end comes from this side: what the kernel keeps of ended connections is here then, and does not
/// use up the client's ports.
fn answer_one(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    stream.write_all(&byte)
}

/// The byte that follows the last one tells the client that all arrived.
fn swallow(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut buffer = vec![0; CHUNK];
    while stream.read(&mut buffer)? > 0 {}
    stream.write_all(&[1])
}

/// Works for so long.
///
/// # Errors
/// The other side does not answer.
pub fn load(work: Work, to: IpAddr, time: Duration, cpu: Option<usize>) -> io::Result<Done> {
    stay_on(cpu)?;
    let to = SocketAddr::new(to, work.port());
    // The first packet may wait for a neighbour.
    ask(&mut connect(SocketAddr::new(
        to.ip(),
        Work::Questions.port(),
    ))?)?;
    let cpu_before = own_cpu_us()?;
    let began = Instant::now();
    let mut done = match work {
        Work::Connections => connections(to, time)?,
        Work::Questions => questions(to, time)?,
        Work::Bulk => bulk(to, time)?,
    };
    done.seconds = began.elapsed().as_secs_f64();
    done.cpu_us = own_cpu_us()? - cpu_before;
    Ok(done)
}

fn connections(to: SocketAddr, time: Duration) -> io::Result<Done> {
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < time {
        let asked = Instant::now();
        let mut stream = connect(to)?;
        ask(&mut stream)?;
        if stream.read(&mut [0])? > 0 {
            return Err(io::Error::other("more was answered than asked"));
        }
        times.push(asked.elapsed());
    }
    Ok(of(times))
}

fn questions(to: SocketAddr, time: Duration) -> io::Result<Done> {
    let mut stream = connect(to)?;
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < time {
        let asked = Instant::now();
        ask(&mut stream)?;
        times.push(asked.elapsed());
    }
    Ok(of(times))
}

fn bulk(to: SocketAddr, time: Duration) -> io::Result<Done> {
    let mut stream = connect(to)?;
    let chunk = vec![0; CHUNK];
    let began = Instant::now();
    let mut done = Done::default();
    while began.elapsed() < time {
        stream.write_all(&chunk)?;
        done.count += CHUNK as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(done)
}

/// To the nanosecond: a hundredth of these times is below a microsecond.
fn of(mut times: Vec<Duration>) -> Done {
    times.sort_unstable();
    let rank = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        let at = times.get(rank - 1);
        at.map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Done {
        count: times.len() as u64,
        p50_us: rank(50),
        p99_us: rank(99),
        ..Done::default()
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream) -> io::Result<()> {
    let mut byte = [0];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)
}

/// Both ends on one processor wait for nothing but work: no sleeping processor has to wake.
fn stay_on(cpu: Option<usize>) -> io::Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// The last processor that this process may run on.
///
/// # Errors
/// The kernel does not tell.
pub fn last_cpu() -> io::Result<usize> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let mut all = (0..CpuSet::count()).rev();
    let last = all.find(|n| set.is_set(*n).unwrap_or(false));
    last.ok_or_else(|| io::Error::other("no processor to run on"))
}

fn own_cpu_us() -> io::Result<f64> {
    cpu_us(std::process::id())
}

/// Processor time of a process, microseconds: of all its threads that are there.
///
/// # Errors
/// It is gone.
pub fn cpu_us(pid: u32) -> io::Result<f64> {
    let mut sum = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // Kernel, Documentation/scheduler/sched-stats.rst, "/proc/<pid>/schedstat": time on the CPU, ns.
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let ns = text.split_whitespace().next().and_then(|n| n.parse().ok());
        sum += ns.unwrap_or(0.0) / 1000.0;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_is_done() {
        let me = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 42));
        let talks: [fn(TcpStream) -> io::Result<()>; 3] = [answer_one, answer_all, swallow];
        for (work, talk) in Work::ALL.into_iter().zip(talks) {
            let listener = TcpListener::bind((me, 0)).expect("a free port");
            let to = listener.local_addr().expect("an address");
            std::thread::spawn(move || each(&listener, talk));
            let time = Duration::from_millis(20);
            let done = match work {
                Work::Connections => connections(to, time),
                Work::Questions => questions(to, time),
                Work::Bulk => bulk(to, time),
            };
            let done = done.expect("it is answered");
            assert!(done.count > 0, "{work:?}: {done:?}");
            assert!(done.p50_us <= done.p99_us, "{work:?}: {done:?}");
        }
        assert!(own_cpu_us().expect("this process is there") > 0.0);
    }
}
