//! The map of a node: its ENIs, blocks and addresses, a character an address.

use lab::snapshot::{Block, Eni, Snapshot};

/// Characters that fit beside the names.
const WIDTH: usize = 64;

/// Nobody counts the 2^48 addresses of an IPv6 prefix; the daemon tells as many as it can write.
const COUNTED: u32 = 1 << 30;

/// What each character means.
pub(super) const LEGEND: &str = "█ used  ░ free  ~ cooling  ! held";

/// Lines that show a node's pool.
pub(super) fn draw(node: &str, title: &str, pool: &Snapshot) -> Vec<String> {
    let t = pool.totals;
    let mut lines = vec![format!(
        "{node} {title}: {} addresses, {} used, {} free, {} cooling, {} held",
        count(t.addresses),
        t.used,
        count(t.free),
        t.cooling,
        t.held
    )];
    for eni in &pool.enis {
        lines.extend(draw_eni(eni));
    }
    lines.extend(pool.report.iter().map(|words| format!("    plan: {words}")));
    lines
}

fn count(addresses: u32) -> String {
    if addresses > COUNTED {
        "countless".into()
    } else {
        addresses.to_string()
    }
}

fn draw_eni(eni: &Eni) -> Vec<String> {
    let address = eni.address.as_deref().unwrap_or("(no address yet)");
    let primary = if eni.primary { ", primary" } else { "" };
    let mut lines = vec![format!(
        "  {} {} device {}, {}{primary}",
        eni.id, address, eni.device_index, eni.phase
    )];
    let (singles, prefixes): (Vec<&Block>, Vec<&Block>) = eni
        .blocks
        .iter()
        .partition(|block| !block.block.contains('/'));
    for block in prefixes {
        let state = state(block);
        if block.free > COUNTED {
            let used = block.used.len();
            lines.push(format!("    {:<18} {used} used{state}", block.block));
            continue;
        }
        lines.push(format!("    {:<18} {}{state}", block.block, cells(block)));
    }
    if !singles.is_empty() {
        let all: Vec<char> = singles
            .iter()
            .flat_map(|b| cells(b).chars().collect::<Vec<_>>())
            .collect();
        let label = format!("{} addresses", singles.len());
        for (n, line) in all.chunks(WIDTH).enumerate() {
            let label = if n == 0 { label.as_str() } else { "" };
            lines.push(format!(
                "    {label:<18} {}",
                line.iter().collect::<String>()
            ));
        }
    }
    lines
}

fn state(block: &Block) -> String {
    if block.state == "confirmed" {
        String::new()
    } else {
        format!(" {}", block.state)
    }
}

fn cells(block: &Block) -> String {
    let times = |c: char, n: u32| {
        c.to_string()
            .repeat(usize::try_from(n).unwrap_or(0).min(WIDTH))
    };
    let used = u32::try_from(block.used.len()).unwrap_or(u32::MAX);
    times('█', used)
        + &times('~', block.cooling)
        + &times('!', block.held)
        + &times('░', block.free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_a_cell() {
        let block = Block {
            block: "10.0.0.16/28".into(),
            state: "confirmed".into(),
            used: vec![("10.0.0.16".parse().expect("an address"), "a/b".into())],
            free: 12,
            cooling: 2,
            held: 1,
        };
        assert_eq!(cells(&block).chars().count(), 16);
        assert_eq!(cells(&block), "█~~!░░░░░░░░░░░░");
    }
}
