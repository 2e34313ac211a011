//! Wires the daemon together; see the library.
#![forbid(unsafe_code)]

use ipamd::args::{self, Command, HELP};
use ipamd::config::{self, Config, Loaded, ProcessEnv, Severity};
use ipamd::report::{EXIT_SETTINGS, check_config, last_words, lines};
use ipamd::{daemon, rpc};
use std::error::Error;
use std::process::ExitCode;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_SETTINGS);
        }
    };
    match command {
        Command::Help => print!("{HELP}"),
        Command::Version => println!("ipamd {}", env!("CARGO_PKG_VERSION")),
        Command::PrintConfigTable => print!("{}", config::markdown()),
        Command::CheckConfig => {
            let (text, good) = check_config(&Config::load(&ProcessEnv));
            print!("{text}");
            if !good {
                return ExitCode::from(EXIT_SETTINGS);
            }
        }
        Command::Probe => return probe(),
        Command::Run => return start(),
    }
    ExitCode::SUCCESS
}

/// One thread for everything: the daemon waits far more than it works.
fn runtime() -> Result<tokio::runtime::Runtime, std::io::Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn probe() -> ExitCode {
    let socket = Config::load(&ProcessEnv).config.socket;
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(rpc::probe(&socket)) {
        Ok(words) => {
            println!("{words}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn start() -> ExitCode {
    let loaded = Config::load(&ProcessEnv);
    if loaded.at_least(Severity::Refusal).next().is_some() {
        last_words(&lines(&loaded.findings), &loaded.config.termination_log);
        return ExitCode::from(EXIT_SETTINGS);
    }
    start_log(&loaded.config.log);
    tell(&loaded);
    let termination_log = loaded.config.termination_log.clone();
    let result = runtime()
        .map_err(|error| with_causes(&error))
        .and_then(|runtime| {
            runtime
                .block_on(daemon::live(loaded.config))
                .map_err(|error| with_causes(&error))
        });
    match result {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(words) => {
            last_words(&format!("ipamd: {words}\n"), &termination_log);
            ExitCode::FAILURE
        }
    }
}

/// The level is for our own words: what libraries have to say is of interest only if it is bad.
fn start_log(log: &config::Log) {
    let ours = ["ipamd", "ipam_engine", "ipam_core"].map(|target| (target, log.level));
    let filter = Targets::new()
        .with_default(log.level.min(Level::WARN))
        .with_targets(ours);
    let lines = tracing_subscriber::fmt::layer().with_target(false);
    let registry = tracing_subscriber::registry();
    // Setting it twice is the only failure, and there is but this one.
    let _ = if log.json {
        registry.with(lines.json().with_filter(filter)).try_init()
    } else {
        registry
            .with(lines.with_ansi(false).with_filter(filter))
            .try_init()
    };
}

fn tell(loaded: &Loaded) {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ipamd");
    for finding in &loaded.findings {
        tracing::warn!(setting = finding.setting, "{}", finding.text);
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
