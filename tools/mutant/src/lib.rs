//! Deliberate mistakes, by which the tests are tested.
//!
//! [`mutant!`] marks a place where a promise could be broken, and says how: `mutant!(NAME, right, wrong)`. Without
//! the feature `play` it is `right` and nothing else; `wrong` is not even compiled. With it, `right` is `wrong` in a
//! process whose environment has the name in `IPAMD_MUTANT`. One process plays one mistake, or none.
//!
//! The table of all mistakes, what each breaks, and which suite must notice is `fleet_sim::mutants`; `cargo xtask
//! mutants` plays them.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "play")]
extern crate std;

/// What [`mutant!`] knows a name by: an FNV-1a hash of it.
#[must_use]
pub const fn id(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

/// The variable that names the mistake of this process.
pub const VARIABLE: &str = "IPAMD_MUTANT";

/// Whether this process makes the mistake with this [`id`].
#[cfg(feature = "play")]
#[must_use]
#[inline]
pub fn is(mistake: u64) -> bool {
    use std::sync::OnceLock;
    static CURRENT: OnceLock<u64> = OnceLock::new();
    *CURRENT.get_or_init(|| std::env::var(VARIABLE).map_or(0, |name| id(&name))) == mistake
}

/// `right`, always.
#[cfg(not(feature = "play"))]
#[macro_export]
macro_rules! mutant {
    ($name:literal, $right:expr, $wrong:expr $(,)?) => {
        $right
    };
}

/// `right`; or `wrong`, in a process that makes the mistake of this name.
#[cfg(feature = "play")]
#[macro_export]
macro_rules! mutant {
    ($name:literal, $right:expr, $wrong:expr $(,)?) => {
        if $crate::is(const { $crate::id($name) }) {
            $wrong
        } else {
            $right
        }
    };
}

#[cfg(all(test, not(feature = "play")))]
mod tests {
    #[test]
    fn without_the_feature_there_is_no_mistake() {
        // It would not compile if `wrong` were there.
        assert_eq!(mutant!("test/none", 1, no_such_thing()), 1);
    }
}
