//! Ctrl-C and SIGTERM: one flag for the whole process, and waits that end when it is set. Cleaning
//! up is not done here: work that sees the flag returns, and what it owns goes with it.

use crate::error::LabError;
use std::io;
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

static SET: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();

/// Begins to listen, instead of being ended by the signals. Call it after [`vpc_sim::isolate`].
///
/// By handlers, not by blocked signals and a thread that waits for them: processes that we start
/// would inherit that the signals are blocked, and could not be stopped in the kind way.
///
/// # Errors
/// The kernel refuses the handlers, or the thread.
pub fn listen() -> Result<(), LabError> {
    let (ready, listening) = sync_channel(1);
    let thread = std::thread::Builder::new().name("signals".into());
    let thread = thread.spawn(move || {
        if let Err(e) = receive(|| drop(ready.send(Ok(())))) {
            // Nobody waits any more if listening had begun.
            drop(ready.send(Err(e)));
        }
    });
    thread.map_err(LabError::io("starting a thread"))?;
    let began = listening
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread ended")));
    began.map_err(LabError::io("listening for signals"))
}

fn receive(ready: impl FnOnce()) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        ready();
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            *SET.lock().unwrap_or_else(PoisonError::into_inner) = true;
            CHANGED.notify_all();
        }
    })
}

/// Whether a person asked to stop.
pub fn is_set() -> bool {
    *SET.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Goes on, unless a person asked to stop.
///
/// # Errors
/// [`LabError::Interrupted`].
pub fn check() -> Result<(), LabError> {
    if is_set() {
        Err(LabError::Interrupted)
    } else {
        Ok(())
    }
}

/// Waits so long.
///
/// # Errors
/// [`LabError::Interrupted`], as soon as a person asks to stop.
pub fn sleep(time: Duration) -> Result<(), LabError> {
    let set = SET.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = CHANGED.wait_timeout_while(set, time, |set| !*set);
    let (set, _) = waited.unwrap_or_else(PoisonError::into_inner);
    if *set {
        Err(LabError::Interrupted)
    } else {
        Ok(())
    }
}

/// Waits until a person asks to stop, and takes that as the wish to go on: for a program that was
/// asked to wait. The next Ctrl-C stops it.
pub fn wait_and_clear() {
    let set = SET.lock().unwrap_or_else(PoisonError::into_inner);
    let set = CHANGED.wait_while(set, |set| !*set);
    *set.unwrap_or_else(PoisonError::into_inner) = false;
}
