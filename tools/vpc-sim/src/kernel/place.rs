//! A place: one OS thread that lives in namespaces of its own and runs jobs there. Namespaces are
//! a thread's, so "do this over there" means "let that thread do it".

use crate::error::SimError;
use crate::isolate::private_mounts;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::gettid;
use std::any::Any;
use std::cell::Cell;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Jobs that may wait for one place.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, and perhaps a mount namespace.
#[derive(Debug)]
pub(crate) struct Place {
    name: String,
    tid: i32,
    net: Arc<OwnedFd>,
    running: Mutex<Option<Running>>,
}

struct Running {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running")
    }
}

/// Which namespaces a place has for itself besides the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mounts {
    Shared,
    Own,
}

impl Place {
    /// Starts the thread, makes its namespaces and runs `setup` in them.
    pub(crate) fn open<S>(name: &str, mounts: Mounts, setup: S) -> Result<Arc<Self>, SimError>
    where
        S: FnOnce() -> Result<(), SimError> + Send + 'static,
    {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let (ready, opened) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(name.chars().take(15).collect())
            .spawn(
                move || match enter(mounts).and_then(|ns| setup().map(|()| ns)) {
                    Ok(ns) => {
                        if ready.send(Ok(ns)).is_ok() {
                            serve(&queue);
                        }
                    }
                    Err(e) => drop(ready.send(Err(e))),
                },
            )
            .map_err(SimError::os(format!("starting the thread of {name}")))?;
        let closed = || SimError::PlaceClosed {
            place: name.to_owned(),
        };
        let (tid, net) = opened.recv().map_err(|_| closed())??;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            tid,
            net: Arc::new(net),
            running: Mutex::new(Some(Running { jobs, thread })),
        }))
    }

    /// The kernel's id of the thread: `/proc/TID/ns` has its namespaces.
    pub(crate) fn tid(&self) -> i32 {
        self.tid
    }

    /// Its network namespace.
    pub(crate) fn net(&self) -> &Arc<OwnedFd> {
        &self.net
    }

    /// Runs `work` in the place and waits for it. Work is done one at a time, in order.
    ///
    /// # Errors
    /// [`SimError::PlaceClosed`], or [`SimError::Panicked`]: the place goes on.
    pub(crate) fn run<T, F>(&self, work: F) -> Result<T, SimError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if gettid().as_raw() == self.tid {
            return Ok(work());
        }
        let (answer, result) = sync_channel(1);
        let job: Job = Box::new(move || {
            drop(answer.send(catch_unwind(AssertUnwindSafe(work))));
        });
        self.jobs()?.send(job).map_err(|_| self.closed())?;
        match result.recv().map_err(|_| self.closed())? {
            Ok(value) => Ok(value),
            Err(panic) => Err(SimError::Panicked {
                place: self.name.clone(),
                message: words(&*panic),
            }),
        }
    }

    /// Like [`Place::run`], in another network namespace and the place's own mounts.
    pub(crate) fn run_in<T, F>(&self, net: Arc<OwnedFd>, work: F) -> Result<T, SimError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let home = Arc::clone(&self.net);
        self.run(move || {
            let _back = Visit::to(net.as_fd(), home)?;
            Ok(work())
        })?
    }

    /// Ends the thread once its waiting jobs are done. The namespaces go with the last holder.
    pub(crate) fn close(&self) {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Running { jobs, thread }) = running {
            drop(jobs);
            // A place that is closed from its own thread can't wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                drop(thread.join());
            }
        }
    }

    fn jobs(&self) -> Result<SyncSender<Job>, SimError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running
            .as_ref()
            .map(|r| r.jobs.clone())
            .ok_or_else(|| self.closed())
    }

    fn closed(&self) -> SimError {
        SimError::PlaceClosed {
            place: self.name.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.close();
    }
}

/// A stay in another network namespace that ends when this value goes.
struct Visit {
    home: Arc<OwnedFd>,
}

impl Visit {
    fn to(net: BorrowedFd<'_>, home: Arc<OwnedFd>) -> Result<Self, SimError> {
        setns(net, CloneFlags::CLONE_NEWNET).map_err(SimError::os("entering a namespace"))?;
        Ok(Self { home })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if setns(self.home.as_fd(), CloneFlags::CLONE_NEWNET).is_err() {
            // Later work would be done in the wrong namespace: rather end the thread, and with it
            // the place, whose callers then get an error.
            STRANDED.set(true);
        }
    }
}

thread_local! {
    static STRANDED: Cell<bool> = const { Cell::new(false) };
}

fn enter(mounts: Mounts) -> Result<(i32, OwnedFd), SimError> {
    let mut flags = CloneFlags::CLONE_NEWNET;
    if mounts == Mounts::Own {
        flags |= CloneFlags::CLONE_NEWNS;
    }
    unshare(flags).map_err(|e| SimError::NoNamespaces { source: e.into() })?;
    if mounts == Mounts::Own {
        private_mounts()?;
    }
    let net = File::open("/proc/thread-self/ns/net")
        .map_err(SimError::os("opening /proc/thread-self/ns/net"))?;
    Ok((gettid().as_raw(), net.into()))
}

fn serve(queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        job();
        if STRANDED.get() {
            tracing::error!("a thread can't get back to its namespace and ends");
            return;
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no words)".to_owned())
}
