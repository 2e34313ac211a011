//! The real store and the stand-in of the simulations ([`fleet_sim::Memory`]) in the same story:
//! what the real one shows after a close, a kill or a reboot the stand-in shows as well, and what it
//! shows after damage the stand-in can show. So what the simulations prove of the engine with the
//! one holds with the other.

use super::tests::{copy, eni, facts, files, ip, key, lease};
use super::*;
use crate::clock::Offset;
use crate::fuzz::search;
use fleet_sim::Memory;
use ipam_core::orphans::Fleet;
use ipam_core::{Block, BlockState, Eni, EniHandle, Intent, Lease, Phase, Timestamp};
use ipam_engine::ports::{Loaded, Released};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseError;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

type Verdict = Result<(), TestCaseError>;

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>),
    /// So many pods come, and most of them go again: a commit each time.
    Churn(u32),
    /// Puts a copy of the folder by.
    PutBy,
    /// The daemon ends without harm and is started again, in another boot or not.
    Restart(End, bool),
    /// The daemon is killed and the disk harmed; the count of commits is lost with it or not.
    Damage(Damage, bool, bool),
    /// The folder goes into an image of which another instance is made.
    Image,
}

#[derive(Clone, Copy, Debug)]
enum End {
    /// The database is closed.
    Clean,
    /// What is in the files counts, and nothing that is in memory only.
    Killed,
    /// The same, and the count of commits is behind: it is written last, and not flushed.
    CountBehind,
    /// The same, and the count of commits can't be read.
    CountLost,
}

/// Places are in the part of a file that is used.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Which, Index, u8),
    Cut(Which, Index),
    /// So many bytes are zero from here on: a block, or a segment.
    Zero(Which, Index, usize),
    Removed(Which),
    /// The database as it was put by; the count of commits as it is.
    OldDatabase,
    /// All as it was put by.
    OldFolder,
    NoDatabase,
}

/// Which file of the database: the largest, which has the data, or any.
#[derive(Clone, Debug)]
struct Which(Option<Index>);

/// What became of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Whole,
    OlderInSilence,
    OlderAndSaysSo,
    AllLostInSilence,
    AllLostAndSaysSo,
}

type Tally = BTreeMap<(&'static str, Class), u32>;

fn write() -> impl Strategy<Value = Write> {
    let (pod, card, at) = (0..12_u32, 0..4_u64, 1..1000_u64);
    prop_oneof![
        4 => (pod.clone(), at.clone()).prop_map(|(n, at)| Write::Lease(Lease {
            since: Timestamp(at),
            ..lease(n)
        })),
        2 => pod.clone().prop_map(|n| Write::NoLease(key(n))),
        2 => (pod.clone(), at.clone()).prop_map(|(n, at)| Write::Cooldown(ip(n), Released {
            at: Timestamp(at),
            host_if: format!("eni{n}"),
        })),
        1 => pod.prop_map(|n| Write::NoCooldown(ip(n))),
        3 => (card.clone(), at, any::<bool>()).prop_map(|(n, at, intent)| {
            let block = Block::prefix_of(ip(u32::try_from(at).unwrap_or(0) * 16));
            Write::Eni(Eni {
                phase: if intent { Phase::Creating } else { Phase::Ready },
                intent: intent.then_some(Intent::Attach),
                blocks: BTreeMap::from([(block, BlockState::Confirmed)]),
                written_at: Timestamp(at),
                ..eni(n)
            })
        }),
        1 => card.prop_map(|n| Write::NoEni(EniHandle(n))),
        1 => select(vec!["i-1", "i-2"]).prop_map(|id| Write::Facts(facts(id))),
        1 => (1..9_u32).prop_map(|nodes| Write::Fleet(Fleet { nodes, rank: nodes - 1 })),
        1 => Just(Write::Trusted),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let which = || {
        prop_oneof![
            3 => Just(Which(None)),
            1 => any::<Index>().prop_map(|file| Which(Some(file)))
        ]
    };
    let place = any::<Index>;
    prop_oneof![
        4 => (which(), place(), 0..8_u8).prop_map(|(file, at, bit)| Damage::Flip(file, at, bit)),
        3 => (which(), place()).prop_map(|(file, at)| Damage::Cut(file, at)),
        3 => (which(), place(), select(vec![1, 512, 4096, 524_288]))
            .prop_map(|(file, at, len)| Damage::Zero(file, at, len)),
        1 => which().prop_map(Damage::Removed),
        2 => Just(Damage::OldDatabase),
        2 => Just(Damage::OldFolder),
        1 => Just(Damage::NoDatabase),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let end = select(vec![
        End::Clean,
        End::Killed,
        End::Killed,
        End::CountBehind,
        End::CountLost,
    ]);
    let reboot = || prop::bool::weighted(0.25);
    prop_oneof![
        14 => vec(write(), 0..6).prop_map(Step::Commit),
        2 => (1..40_u32).prop_map(Step::Churn),
        5 => Just(Step::PutBy),
        3 => (end, reboot()).prop_map(|(end, reboot)| Step::Restart(end, reboot)),
        3 => (damage(), prop::bool::weighted(0.3), reboot())
            .prop_map(|(damage, uncounted, reboot)| Step::Damage(damage, uncounted, reboot)),
        1 => Just(Step::Image),
    ]
}

/// In an order of its own, and the words of damage as one fact.
fn shown(mut loaded: Loaded) -> (Loaded, bool) {
    loaded.leases.sort_by(|a, b| a.key.cmp(&b.key));
    loaded.enis.sort_by_key(|eni| eni.handle);
    let told = !loaded.damage.is_empty();
    loaded.damage.clear();
    (loaded, told)
}

/// Both stores, in one state.
struct Pair {
    root: TempDir,
    folders: u32,
    boots: u32,
    real: Option<SledStore>,
    stand_in: Memory,
    put_by: Option<PathBuf>,
}

impl Pair {
    fn new() -> Result<Self, TestCaseError> {
        let mut pair = Self {
            root: TempDir::new().expect("makes a directory"),
            folders: 0,
            boots: 0,
            real: None,
            stand_in: Memory::default(),
            put_by: None,
        };
        pair.stand_in.keep_past(usize::MAX);
        pair.opens_the_same()?;
        Ok(pair)
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join(self.folders.to_string())
    }

    fn boot(&self) -> String {
        format!("boot-{}", self.boots)
    }

    /// Goes on in a copy of the folder as it is on the disk now; the daemon that was is no more.
    fn kill(&mut self) -> PathBuf {
        let was = self.folder();
        self.folders += 1;
        copy(&was, &self.folder());
        self.real = None;
        fs::remove_dir_all(was).expect("removes");
        self.folder()
    }

    fn open_real(&mut self) -> Result<Loaded, TestCaseError> {
        let clock = Some(Offset(1_000_000));
        let opened = load::open_at(&self.folder(), &self.boot(), clock)
            .map_err(|error| TestCaseError::fail(format!("the real store: {error}")))?;
        self.real = Some(opened.store);
        Ok(opened.loaded)
    }

    fn opens_the_same(&mut self) -> Verdict {
        let real = self.open_real()?;
        let words = real.damage.clone();
        let stand_in = self.stand_in.open(&self.boot());
        prop_assert_eq!(shown(real), shown(stand_in), "it says {:?}", words);
        Ok(())
    }

    fn commit(&mut self, writes: &[Write]) -> Verdict {
        let real = self.real.as_mut().expect("is open").commit(writes);
        prop_assert!(real.is_ok(), "the real store: {:?}", real);
        prop_assert!(self.stand_in.commit(writes).is_ok());
        Ok(())
    }

    fn churn(&mut self, pods: u32) -> Verdict {
        for n in 100..100 + pods {
            self.commit(&[Write::Lease(lease(n))])?;
            if n % 4 > 0 {
                let released = Released {
                    at: Timestamp(u64::from(n)),
                    host_if: format!("eni{n}"),
                };
                self.commit(&[Write::NoLease(key(n)), Write::Cooldown(ip(n), released)])?;
            }
        }
        Ok(())
    }

    fn restart(&mut self, end: End, reboot: bool) -> Verdict {
        self.boots += u32::from(reboot);
        match end {
            End::Clean => self.real = None,
            End::Killed => drop(self.kill()),
            End::CountBehind | End::CountLost => {
                let count = self.kill().join("commits");
                match (&self.put_by, end) {
                    (Some(old), End::CountBehind) => {
                        fs::copy(old.join("commits"), count).expect("copies");
                    }
                    _ => fs::remove_file(count).expect("removes"),
                }
            }
        }
        self.opens_the_same()
    }

    fn put_by(&mut self) {
        let target = self.root.path().join("put-by");
        if self.put_by.is_some() {
            fs::remove_dir_all(&target).expect("removes");
        }
        copy(&self.folder(), &target);
        self.put_by = Some(target);
    }

    /// Whatever the real one shows, the stand-in must be able to show: it goes back as far.
    fn damage(
        &mut self,
        damage: &Damage,
        uncounted: bool,
        reboot: bool,
    ) -> Result<Class, TestCaseError> {
        self.boots += u32::from(reboot);
        let folder = self.kill();
        harm(&folder, self.put_by.as_deref(), damage);
        if uncounted {
            fs::remove_file(folder.join("commits")).expect("removes");
        }
        // What was put by may be younger than what came back.
        self.put_by = None;
        let real = self.open_real()?;
        let words = real.damage.clone();
        let real = shown(real);
        if shown(self.stand_in.copy().open(&self.boot())) == real {
            self.stand_in.open(&self.boot());
            return Ok(Class::Whole);
        }
        let could_be = self.stand_in.copy();
        loop {
            let back = could_be.copy();
            prop_assert!(
                back.go_back(1, real.1).is_some(),
                "the stand-in can't come back so: {:#?}\nit says {:?}",
                real,
                words
            );
            could_be.go_back(1, false);
            let opened = back.copy();
            if shown(opened.open(&self.boot())) != real {
                continue;
            }
            self.stand_in = opened;
            let all = back.go_back(1, false).is_none();
            return Ok(match (all, real.1) {
                (false, false) => Class::OlderInSilence,
                (false, true) => Class::OlderAndSaysSo,
                (true, false) => Class::AllLostInSilence,
                (true, true) => Class::AllLostAndSaysSo,
            });
        }
    }

    /// What the engine does there: nothing in the store is this instance's.
    fn image(&mut self) -> Verdict {
        self.restart(End::Killed, true)?;
        let gone = (0..12).map(|n| Write::NoCooldown(ip(n)));
        let enis = (0..4).map(|n| Write::NoEni(EniHandle(n)));
        let all: Vec<_> = gone
            .chain(enis)
            .chain([Write::Facts(facts("i-9"))])
            .collect();
        self.commit(&all)
    }

    fn take(&mut self, step: &Step, tally: &RefCell<Tally>) -> Verdict {
        match step {
            Step::PutBy => {
                self.put_by();
                Ok(())
            }
            Step::Commit(writes) => self.commit(writes),
            Step::Churn(pods) => self.churn(*pods),
            Step::Restart(end, reboot) => self.restart(*end, *reboot),
            Step::Image => self.image(),
            Step::Damage(damage, uncounted, reboot) => {
                let class = self.damage(damage, *uncounted, *reboot)?;
                *tally
                    .borrow_mut()
                    .entry((damage.name(), class))
                    .or_default() += 1;
                Ok(())
            }
        }
    }
}

impl Damage {
    const fn name(&self) -> &'static str {
        match self {
            Self::Flip(..) => "bit flipped",
            Self::Cut(..) => "file cut",
            Self::Zero(..) => "bytes zeroed",
            Self::Removed(_) => "file removed",
            Self::OldDatabase => "older database",
            Self::OldFolder => "older folder",
            Self::NoDatabase => "no database",
        }
    }
}

/// Does it to a folder that nobody has open.
fn harm(folder: &Path, put_by: Option<&Path>, damage: &Damage) {
    let db = folder.join("db");
    let all = files(&db);
    let largest = all
        .iter()
        .max_by_key(|p| fs::metadata(p).map_or(0, |m| m.len()));
    let file = |which: &Which| match &which.0 {
        Some(index) => index.get(&all).clone(),
        None => largest.expect("has files").clone(),
    };
    let change = |which: &Which, at: &Index, change: &dyn Fn(&mut Vec<u8>, usize)| {
        let file = file(which);
        let mut bytes = fs::read(&file).expect("reads");
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |n| n + 1);
        if used > 0 {
            change(&mut bytes, at.index(used));
            fs::write(file, bytes).expect("writes");
        }
    };
    match (damage, put_by) {
        (Damage::Flip(which, at, bit), _) => change(which, at, &|bytes, at| bytes[at] ^= 1 << bit),
        (Damage::Cut(which, at), _) => change(which, at, &|bytes, at| bytes.truncate(at)),
        (Damage::Zero(which, at, len), _) => change(which, at, &|bytes, at| {
            let at = at / len * len;
            let end = bytes.len().min(at + len);
            bytes[at..end].fill(0);
        }),
        (Damage::Removed(which), _) => fs::remove_file(file(which)).expect("removes"),
        (Damage::NoDatabase, _) => fs::remove_dir_all(db).expect("removes"),
        (Damage::OldDatabase, Some(old)) => {
            fs::remove_dir_all(&db).expect("removes");
            copy(&old.join("db"), &db);
        }
        (Damage::OldFolder, Some(old)) => {
            fs::remove_dir_all(folder).expect("removes");
            copy(old, folder);
        }
        (Damage::OldDatabase | Damage::OldFolder, None) => {}
    }
}

const STORIES: u32 = 50;

#[test]
fn the_stand_in_of_simulations_is_as_good_and_as_bad_as_the_real_one() {
    let tally = RefCell::new(Tally::new());
    search(STORIES, &vec(step(), 10..40), |steps| {
        let mut pair = Pair::new()?;
        steps.iter().try_for_each(|step| pair.take(step, &tally))
    });
    let tally = tally.into_inner();
    for ((damage, class), times) in &tally {
        println!("{damage}: {class:?} {times}");
    }
    for class in [
        Class::Whole,
        Class::OlderInSilence,
        Class::OlderAndSaysSo,
        Class::AllLostAndSaysSo,
    ] {
        let seen = tally.keys().any(|(_, seen)| *seen == class);
        assert!(
            seen,
            "{class:?} did not come about: does the damage hit the data?"
        );
    }
}
