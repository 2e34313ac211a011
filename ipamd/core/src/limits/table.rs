//! The embedded table and its reader.
//!
//! One type per line, sorted bytewise by name, so that a lookup is a binary search over text and
//! parses the one line that it finds: nothing is built at start and no page is touched in vain.
//! The reader takes exactly the form in which the table is written (fixed keys in fixed order, no
//! blanks); a test reads every line with it.

use super::InstanceLimits;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// `data/instance-types.jsonl`: DescribeInstanceTypes of all Regions, joined with retired types.
pub(super) const TYPES: &str = include_str!("../../data/instance-types.jsonl");

/// Binary search for `name` in `table`'s lines.
pub(super) fn find(table: &str, name: &str) -> Option<InstanceLimits> {
    // Invariant: the line looked for, if there is one, starts in lo..hi; both are starts of lines.
    let (mut lo, mut hi) = (0, table.len());
    while lo < hi {
        let mid = lo + (hi - lo) / 2;
        let bytes = table.as_bytes();
        let start = bytes[lo..mid]
            .iter()
            .rposition(|&b| b == b'\n')
            .map_or(lo, |at| lo + at + 1);
        let end = bytes[mid..hi]
            .iter()
            .position(|&b| b == b'\n')
            .map_or(hi, |at| mid + at);
        let line = table.get(start..end)?;
        match name_of(line)?.cmp(name) {
            Ordering::Equal => return parse(line),
            Ordering::Less => lo = (end + 1).min(hi),
            Ordering::Greater => hi = start,
        }
    }
    None
}

/// The type's name in a line.
pub(super) fn name_of(line: &str) -> Option<&str> {
    Reader(line).string(r#"{"type":"#)
}

/// A whole line as limits; `None` if it has any other form than the table's.
pub(super) fn parse(line: &str) -> Option<InstanceLimits> {
    let mut r = Reader(line);
    r.string(r#"{"type":"#)?;
    let vcpus = r.nullable(r#","vcpus":"#, Reader::number)?;
    let hypervisor = r.nullable(r#","hypervisor":"#, |r| r.string(""))?;
    let bare_metal = r.boolean(r#","bare_metal":"#)?;
    r.literal(r#","ipv4_per_eni":"#)?;
    let ipv4_per_eni = r.number()?;
    let ipv6_per_eni = r.nullable(r#","ipv6_per_eni":"#, Reader::number)?;
    r.literal(r#","default_card":"#)?;
    let default_card = r.number()?;
    let card_enis = r.list(r#","card_enis":"#, Reader::number)?;
    r.nullable(r#","memory_mib":"#, Reader::number)?;
    r.nullable(r#","arch":"#, |r| r.list("", |r| r.string("")))?;
    r.literal("}")?;
    if !r.0.is_empty() {
        return None;
    }
    let prefixes = bare_metal || hypervisor == Some("nitro");
    Some(InstanceLimits {
        enis: *card_enis.get(usize::try_from(default_card).ok()?)?,
        ipv4_per_eni,
        // Where the table doesn't know: all Nitro types have as many as of IPv4.
        ipv6_per_eni: ipv6_per_eni.unwrap_or(if prefixes { ipv4_per_eni } else { 0 }),
        prefixes,
        vcpus,
        default_card,
        card_enis,
        known: true,
    })
}

/// What is left of a line. Each method takes what it names from the front, or nothing and `None`.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn literal(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// A decimal number without sign or leading zero.
    fn number(&mut self) -> Option<u32> {
        let len = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at(len);
        if len > 1 && digits.starts_with('0') {
            return None;
        }
        self.0 = rest;
        digits.parse().ok()
    }

    /// `key`, then a string without escapes (no name in the table needs one).
    fn string(&mut self, key: &str) -> Option<&'a str> {
        self.literal(key)?;
        self.literal("\"")?;
        let (text, rest) = self.0.split_once('"')?;
        self.0 = rest;
        text.bytes()
            .all(|b| b.is_ascii_graphic() && b != b'\\')
            .then_some(text)
    }

    fn boolean(&mut self, key: &str) -> Option<bool> {
        self.literal(key)?;
        match self.literal("true") {
            Some(()) => Some(true),
            None => self.literal("false").map(|()| false),
        }
    }

    /// `key`, then `null` or what `value` takes. The outer `None` is an error, the inner is `null`.
    fn nullable<T>(
        &mut self,
        key: &str,
        value: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        self.literal(key)?;
        match self.literal("null") {
            Some(()) => Some(None),
            None => value(self).map(Some),
        }
    }

    /// `key`, then a list of at least one item.
    fn list<T>(
        &mut self,
        key: &str,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.literal(key)?;
        self.literal("[")?;
        let mut items = Vec::new();
        loop {
            items.push(item(self)?);
            if self.literal("]").is_some() {
                return Some(items);
            }
            self.literal(",")?;
        }
    }
}
