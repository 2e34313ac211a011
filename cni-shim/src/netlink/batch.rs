//! Requests, laid out one behind the other so that one `send` carries them all.

use super::uapi::{NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST};

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// Some requests to rtnetlink, in the order in which the kernel will carry them out.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

/// A nested attribute that is still open.
#[derive(Debug)]
#[must_use = "close it with Batch::close"]
pub(crate) struct Nest(usize);

impl Batch {
    /// Begins a request: `kind` is `RTM_*`, `header` the family's own header.
    pub(crate) fn begin(&mut self, kind: u16, flags: u16, header: &[u8]) {
        self.starts.push(self.bytes.len());
        let sequence = u32::try_from(self.starts.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.put(header);
    }

    /// Adds an attribute to the request (or nest) that was begun last.
    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.put(value);
    }

    pub(crate) fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// A text with the zero that the kernel wants behind it.
    pub(crate) fn attr_text(&mut self, kind: u16, text: &str) {
        let mut value = Vec::with_capacity(text.len() + 1);
        value.extend_from_slice(text.as_bytes());
        value.push(0);
        self.attr(kind, &value);
    }

    /// Opens a nested attribute.
    pub(crate) fn nest(&mut self, kind: u16) -> Nest {
        let at = self.bytes.len();
        self.attr(kind | NLA_F_NESTED, &[]);
        Nest(at)
    }

    /// Raw bytes inside a nest, padded to the attribute alignment of 4.
    pub(crate) fn put(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Closes a nested attribute.
    pub(crate) fn close(&mut self, nest: Nest) {
        let length = u16::try_from(self.bytes.len() - nest.0).unwrap_or(u16::MAX);
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// How many requests there are; their sequence numbers are 1 to this.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The bytes to send. Only the last request asks for an acknowledgement: the kernel works in
    /// order and reports a failure in any case, so one answer tells that all is done.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let ends = self
            .starts
            .iter()
            .skip(1)
            .copied()
            .chain([self.bytes.len()]);
        let spans: Vec<_> = self.starts.iter().copied().zip(ends).collect();
        for &(start, end) in &spans {
            let length = u32::try_from(end - start).unwrap_or(u32::MAX);
            self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        }
        if let Some(&(last, _)) = spans.last() {
            let [low, high] = NLM_F_ACK.to_ne_bytes();
            self.bytes[last + 6] |= low;
            self.bytes[last + 7] |= high;
        }
        self.bytes
    }
}
