//! Which ENI is the node's own.

use super::Datastore;
use crate::{Eni, EniHandle, EniView, Mac};
use alloc::vec::Vec;

impl Datastore {
    /// The node's own first ENI.
    #[must_use]
    pub fn primary(&self) -> Option<&Eni> {
        self.enis.values().find(|eni| eni.primary)
    }

    /// IMDS's word (`mac`) for the node's own first ENI. Its place does not tell: IMDS shows it at
    /// another device index than 0 on some platforms.
    pub fn set_primary(&mut self, mac: Mac) {
        self.primary_mac = Some(mac);
        let primary = |eni: &Eni| eni.mac.map_or(eni.primary, |known| known == mac);
        let wrong = self.enis.values().filter(|e| e.primary != primary(e));
        let wrong: Vec<EniHandle> = wrong.map(|e| e.handle).collect();
        for handle in wrong {
            if let Some(eni) = self.eni_mut(handle) {
                eni.primary = !eni.primary;
                if eni.primary {
                    eni.is_the_nodes_own();
                }
            }
        }
    }

    /// Whether an ENI is the node's own first one. Before IMDS has told, its place is what is known:
    /// EC2 attaches the first interface of an instance at card 0, index 0.
    pub(crate) fn is_primary(&self, view: &EniView) -> bool {
        let first = || {
            let place = view.attachment.as_ref();
            place.is_some_and(|a| a.card == 0 && a.device_index == 0)
        };
        self.primary_mac.map_or_else(first, |mac| view.mac == mac)
    }
}
