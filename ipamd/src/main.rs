//! Wires the daemon together; see the library.
#![forbid(unsafe_code)]

use ipamd::args::{self, Command, HELP};
use ipamd::config::{self, Config, Loaded, ProcessEnv, Severity};
use ipamd::report::{
    EXIT_SETTINGS, check_config, check_config_json, last_words, lines, with_causes,
};
use ipamd::{daemon, log, rpc};
use std::process::ExitCode;

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
        Command::Version => println!("ipamd {}", env!("IPAMD_VERSION")),
        Command::PrintConfigTable => print!("{}", config::markdown()),
        Command::CheckConfig { json } => return check(json),
        Command::Probe => return probe(),
        Command::Run => return start(),
    }
    ExitCode::SUCCESS
}

fn check(json: bool) -> ExitCode {
    let loaded = Config::load(&ProcessEnv);
    let checked = if json {
        check_config_json(&loaded)
    } else {
        Ok(check_config(&loaded))
    };
    match checked {
        Ok((text, good)) => {
            print!("{text}");
            if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_SETTINGS)
            }
        }
        Err(error) => {
            eprintln!("the answer can't be written: {error}");
            ExitCode::FAILURE
        }
    }
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
    let (guard, dropped) = log::start(&loaded.config.log);
    tell(&loaded);
    let termination_log = loaded.config.termination_log.clone();
    let result = runtime()
        .map_err(|error| with_causes(&error))
        .and_then(|runtime| {
            runtime
                .block_on(daemon::live(loaded.config, dropped))
                .map_err(|error| with_causes(&error))
        });
    if result.is_ok() {
        tracing::info!("stopped");
    }
    // The last lines come before the last words.
    drop(guard);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            last_words(&format!("ipamd: {words}\n"), &termination_log);
            ExitCode::FAILURE
        }
    }
}

fn tell(loaded: &Loaded) {
    tracing::info!(version = env!("IPAMD_VERSION"), "ipamd");
    for finding in &loaded.findings {
        tracing::warn!(setting = finding.setting, "{}", finding.text);
    }
}
