//! A client of the instance metadata service, for one question (EC2 User Guide, "Use IMDS").
//!
//! IMDSv2 only: a token by PUT, then the path by GET, each on its own connection. The whole exchange
//! ends within [`DEADLINE`]; an answer is read up to [`ANSWER_MAX`].

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The link-local address of every instance.
pub(crate) const DEFAULT_HOST: &str = "169.254.169.254:80";

/// For token and type together: what the script allows each.
const DEADLINE: Duration = Duration::from_secs(10);

/// Bytes. Token and type are a tenth of it.
const ANSWER_MAX: u64 = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImdsError {
    #[error("no address by that name: {0}")]
    Name(io::Error),
    #[error("no address by that name")]
    NoAddress,
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Timeout,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{what} refused with HTTP status {status}")]
    Status { what: &'static str, status: u16 },
    #[error("answer for the {what} is not HTTP, or more than {ANSWER_MAX} bytes")]
    Form { what: &'static str },
}

/// The type of the instance that this runs on.
pub(crate) fn instance_type(host: &str) -> Result<String, ImdsError> {
    let deadline = Instant::now() + DEADLINE;
    let address = resolve(host)?;
    let token = ask(
        address,
        deadline,
        "token",
        &format!(
            "PUT /latest/api/token HTTP/1.1\r\nHost: {host}\r\n\
             X-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n"
        ),
    )?;
    ask(
        address,
        deadline,
        "instance type",
        &format!(
            "GET /latest/meta-data/instance-type HTTP/1.1\r\nHost: {host}\r\n\
             X-aws-ec2-metadata-token: {token}\r\n"
        ),
    )
}

/// `host[:port]`, where an IPv6 address with a port stands in brackets.
fn resolve(host: &str) -> Result<SocketAddr, ImdsError> {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok((ip, 80).into());
    }
    let named = if host.contains(':') {
        host.to_socket_addrs()
    } else {
        (host, 80).to_socket_addrs()
    };
    named
        .map_err(ImdsError::Name)?
        .next()
        .ok_or(ImdsError::NoAddress)
}

/// Sends `head` (request line and headers, no empty line) and returns the body of a 200.
fn ask(
    address: SocketAddr,
    deadline: Instant,
    what: &'static str,
    head: &str,
) -> Result<String, ImdsError> {
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?).map_err(timed)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream
        .write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())
        .map_err(timed)?;
    let answer = read_answer(&mut stream, deadline, what)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(ImdsError::Form { what })?;
    let status = status_of(head).ok_or(ImdsError::Form { what })?;
    let body = body.trim();
    match status {
        // The answer goes into a header or into a table's search: one word.
        200 if !body.is_empty() && body.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(body.to_owned())
        }
        200 => Err(ImdsError::Form { what }),
        _ => Err(ImdsError::Status { what, status }),
    }
}

/// Reads until the body is complete: by Content-Length, or else by the end of the stream.
fn read_answer(
    stream: &mut TcpStream,
    deadline: Instant,
    what: &'static str,
) -> Result<String, ImdsError> {
    let mut answer = Vec::new();
    let mut chunk = [0; 2048];
    while !complete(&answer) {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(timed(e)),
        }
        if answer.len() as u64 > ANSWER_MAX {
            return Err(ImdsError::Form { what });
        }
    }
    String::from_utf8(answer).map_err(|_| ImdsError::Form { what })
}

fn complete(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..end]);
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse::<usize>().ok())
        .is_some_and(|length| answer.len() - (end + 4) >= length)
}

/// Of a status line `HTTP/1.1 200 OK`.
fn status_of(head: &str) -> Option<u16> {
    let mut words = head.lines().next()?.split(' ');
    words
        .next()?
        .starts_with("HTTP/1.")
        .then(|| words.next()?.parse().ok())?
}

/// What is left until the deadline; never zero, which the socket calls take for "for ever".
fn left(deadline: Instant) -> Result<Duration, ImdsError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ImdsError::Timeout)
    } else {
        Ok(left)
    }
}

fn timed(e: io::Error) -> ImdsError {
    match e.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ImdsError::Timeout,
        _ => ImdsError::Io(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(150)
    }

    #[test]
    fn hosts() {
        for (host, address) in [
            (DEFAULT_HOST, "169.254.169.254:80"),
            ("169.254.169.254", "169.254.169.254:80"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("fd00:ec2::254", "[fd00:ec2::254]:80"),
            ("[fd00:ec2::254]", "[fd00:ec2::254]:80"),
            ("[fd00:ec2::254]:81", "[fd00:ec2::254]:81"),
        ] {
            assert_eq!(resolve(host).expect(host).to_string(), address);
        }
        assert!(resolve("127.0.0.1:http:x").is_err());
    }

    /// Neither silence nor an answer in drips holds the caller past its deadline.
    #[test]
    fn the_deadline_is_for_the_whole_answer() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let asked = ask(
            silent.local_addr().expect("bound"),
            soon(),
            "token",
            "GET / HTTP/1.1\r\n",
        );
        assert!(matches!(asked, Err(ImdsError::Timeout)), "{asked:?}");

        let slow = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = slow.local_addr().expect("bound");
        let drips = thread::spawn(move || {
            let (mut stream, _) = slow.accept().expect("a caller");
            while stream.write_all(b"H").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let begun = Instant::now();
        let asked = ask(address, soon(), "token", "GET / HTTP/1.1\r\n");
        assert!(matches!(asked, Err(ImdsError::Timeout)), "{asked:?}");
        assert!(begun.elapsed() < Duration::from_secs(2));
        drips.join().expect("ends when its caller is gone");
    }

    #[test]
    fn an_answer_has_a_bound() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a caller");
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let deadline = Instant::now() + Duration::from_secs(5);
        let asked = ask(address, deadline, "token", "GET / HTTP/1.1\r\n");
        assert!(
            matches!(asked, Err(ImdsError::Form { what: "token" })),
            "{asked:?}"
        );
        server.join().expect("ends when its caller is gone");
    }
}
