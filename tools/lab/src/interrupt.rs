//! Ctrl-C and SIGTERM: one flag for the whole process, and waits that end when it is set. Cleaning
//! up is not done here: work that sees the flag returns, and what it owns goes with it.

use crate::error::LabError;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

static SET: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();

/// Begins to listen, instead of being ended by the signals. Call it after [`vpc_sim::isolate`] and
/// before other threads start, which inherit that the signals are not for them.
///
/// # Errors
/// The kernel refuses the mask, or the thread.
pub fn listen() -> Result<(), LabError> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)
        .map_err(LabError::io("blocking signals"))?;
    let wait = move || {
        while signals.wait().is_ok() {
            *SET.lock().unwrap_or_else(PoisonError::into_inner) = true;
            CHANGED.notify_all();
        }
    };
    let thread = std::thread::Builder::new()
        .name("signals".into())
        .spawn(wait);
    thread.map(drop).map_err(LabError::io("starting a thread"))
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
