//! Time passes when nothing else can happen.

use super::World;
use std::time::Duration;

impl World {
    /// What happens in the next so many seconds.
    pub fn run_for(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        for _ in 0..100_000 {
            self.forget();
            let plan = self.plan();
            self.memory.remember(&plan);
            for action in &plan.actions {
                self.carry_out(action);
            }
            if plan.actions.is_empty() {
                match plan.wake_at {
                    Some(at) if at <= end => self.now = at,
                    _ => break,
                }
            }
        }
        assert!(self.now <= end, "it spins: {:?}", self.plan());
        self.now = end;
    }

    /// Until there is nothing to do for ten minutes but ask EC2 for its word.
    pub fn settle(&mut self) {
        let deadline = self.now + Duration::from_secs(600);
        for _ in 0..10_000 {
            self.forget();
            let plan = self.plan();
            self.memory.remember(&plan);
            for action in &plan.actions {
                self.carry_out(action);
            }
            if !plan.actions.is_empty() {
                continue;
            }
            match plan.wake_at {
                Some(at) if at <= deadline => self.now = at,
                _ => return,
            }
        }
        panic!("does not settle: {:?}", self.plan());
    }
}
