//! The program as scripts run it: arguments in, one number and an exit code out.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;

fn run(args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_max-pods"))
        .args(args.split_whitespace().map(|a| a.trim_matches('\'')))
        .output()
        .expect("max-pods starts")
}

fn stdout(out: &Output) -> String {
    String::from_utf8(out.stdout.clone()).expect("UTF-8")
}

fn stderr(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).expect("UTF-8")
}

#[test]
fn one_number_on_stdout_and_nothing_else() {
    for (args, pods) in [
        ("--instance-type m5.large", 29),
        ("--instance-type=m5.large --cni-version 1.7.5", 29),
        (
            "--instance-type m5.large --cni-version 1.9.0 --cni-prefix-delegation-enabled",
            110,
        ),
        (
            "--instance-type c7g.medium --cni-version 1.9 --cni-prefix-delegation-enabled",
            98,
        ),
        (
            "--instance-type c7g.medium --cni-prefix-delegation-enabled",
            98,
        ),
        (
            "--instance-type c7g.medium --cni-prefix-delegation-enabled --cni-version 1.8.9",
            8,
        ),
        (
            "--instance-type m5.8xlarge --cni-prefix-delegation-enabled --cni-version v1.11.2-eksbuild.1",
            250,
        ),
        (
            "--instance-type t3.medium --cni-prefix-delegation-enabled --show-max-allowed",
            242,
        ),
        (
            "--instance-type t3.medium --cni-custom-networking-enabled --cni-version 1.9.0",
            12,
        ),
        ("--instance-type m5.large --cni-max-eni 2", 20),
        (
            "--instance-type m5.large --cni-max-eni '' --cni-version ''",
            29,
        ),
        ("--instance-type m7i.48xlarge", 250),
        ("--instance-type m7i.48xlarge --show-max-allowed", 737),
        (
            "--instance-type m5.metal --cni-prefix-delegation-enabled --show-max-allowed",
            11_762,
        ),
        (
            "--instance-type m4.xlarge --cni-prefix-delegation-enabled",
            58,
        ),
    ] {
        let out = run(args);
        assert_eq!(stdout(&out), format!("{pods}\n"), "{args}");
        assert_eq!(stderr(&out), "", "{args}");
        assert_eq!(out.status.code(), Some(0), "{args}");
    }
}

#[test]
fn errors_go_to_stderr_with_a_code() {
    for (args, code, word) in [
        ("", 64, "--instance-type"),
        ("--instance-type", 64, "--instance-type"),
        ("--instance-type ''", 64, "empty"),
        (
            "--instance-type m5.large --instance-type-from-imds",
            64,
            "cannot be used with",
        ),
        (
            "--instance-type m5.large --cni-version latest",
            64,
            "latest",
        ),
        ("--instance-type m5.large --cni-max-eni two", 64, "two"),
        ("--instance-type m5.large --cni-max-eni=-1", 64, "-1"),
        (
            "--instance-type m5.large --cni-max-enis 2",
            64,
            "--cni-max-enis",
        ),
        ("m5.large", 64, "m5.large"),
        ("--instance-type zz9.large", 65, "zz9.large"),
        (
            "--instance-type-from-imds --imds-host 127.0.0.1:1",
            69,
            "127.0.0.1:1",
        ),
    ] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(code), "{args}: {}", stderr(&out));
        assert_eq!(stdout(&out), "", "{args}");
        assert!(stderr(&out).contains(word), "{args}: {}", stderr(&out));
    }
}

#[test]
fn help_is_an_answer() {
    for flag in ["-h", "--help"] {
        let out = run(flag);
        assert_eq!(out.status.code(), Some(0));
        for name in [
            "--instance-type ",
            "--instance-type-from-imds",
            "--cni-version",
            "--cni-custom-networking-enabled",
            "--cni-prefix-delegation-enabled",
            "--cni-max-eni",
            "--show-max-allowed",
            "--explain",
            "--imds-host",
            "Exit codes",
        ] {
            assert!(stdout(&out).contains(name), "{flag}: {name} is missing");
        }
    }
}

#[test]
fn explanations_leave_stdout_alone() {
    let out = run(
        "--instance-type t3.medium --cni-prefix-delegation-enabled --cni-version 1.8.0 --explain",
    );
    assert_eq!(stdout(&out), "17\n");
    assert_eq!(
        stderr(&out),
        "t3.medium:\n  CNI 1.8.0 has no prefix delegation: 1.9 was the first\n  3 ENIs\n  \
         5 slots per ENI besides its primary address\n  \
         15 addresses + 2 pods in the host's network = 17\n  \
         at most 110 recommended on 2 vCPUs\n  max pods: 17\n"
    );
}

/// Serves one answer per connection on loopback; returns what was asked, line by line.
fn serve(answers: &[&str]) -> (String, thread::JoinHandle<Vec<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let host = listener.local_addr().expect("bound").to_string();
    let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
    let server = thread::spawn(move || {
        answers
            .iter()
            .map(|answer| {
                let (mut stream, _) = listener.accept().expect("a caller");
                let mut asked = Vec::new();
                for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                    if line.is_empty() {
                        break;
                    }
                    asked.push(line);
                }
                stream
                    .write_all(answer.as_bytes())
                    .expect("the caller listens");
                asked
            })
            .collect()
    });
    (host, server)
}

#[test]
fn the_type_comes_from_imds() {
    // The first answer ends by its length, the second by the end of the stream.
    let (host, server) = serve(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nAQ==T",
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nm5.8xlarge\n",
    ]);
    let out = run(&format!("--instance-type-from-imds --imds-host {host}"));
    assert_eq!(
        (stdout(&out).as_str(), stderr(&out).as_str()),
        ("234\n", "")
    );
    let asked = server.join().expect("server");
    assert_eq!(asked[0][0], "PUT /latest/api/token HTTP/1.1");
    assert!(
        asked[0]
            .iter()
            .any(|h| h == "X-aws-ec2-metadata-token-ttl-seconds: 60")
    );
    assert_eq!(asked[1][0], "GET /latest/meta-data/instance-type HTTP/1.1");
    assert!(
        asked[1]
            .iter()
            .any(|h| h == "X-aws-ec2-metadata-token: AQ==T")
    );
}

#[test]
fn bad_answers_of_imds_are_errors() {
    for (answer, word) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "not HTTP"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\nb",
            "not HTTP",
        ),
        ("", "not HTTP"),
        ("SSH-2.0-x\r\n\r\nhello", "not HTTP"),
    ] {
        let (host, server) = serve(&[answer]);
        let out = run(&format!("--instance-type-from-imds --imds-host {host}"));
        assert_eq!(out.status.code(), Some(69), "{answer:?}: {}", stderr(&out));
        assert!(stderr(&out).contains(word), "{answer:?}: {}", stderr(&out));
        assert_eq!(stdout(&out), "");
        server.join().expect("server");
    }
}
