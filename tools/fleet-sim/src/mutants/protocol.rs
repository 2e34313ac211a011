//! Notes of the plugin.

use super::{Mutant, tests};

#[rustfmt::skip]
pub(super) const TABLE: &[Mutant] = &[
    tests("spool/cut-note-is-refused", "proto/tests/tombstone.rs",
        "a note that was cut is not believed"),
    tests("spool/doubled-field-is-refused", "proto/tests/tombstone.rs",
        "a note that contradicts itself is not believed"),
];
