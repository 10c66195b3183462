//! The project's rules on its own files, as a list of rules, each one a function from the tree to findings.

mod rules;
mod rust_code;
mod tree;

use std::path::Path;

use anyhow::{Result, ensure};

use rules::RULES;
use tree::Tree;

/// Prints each finding; fails if there is one.
pub fn run(root: &Path) -> Result<()> {
    let tree = Tree::read(root)?;
    let mut findings = 0;
    for rule in RULES {
        for finding in (rule.check)(&tree) {
            eprintln!("{}:{}: {} [{}]", finding.path, finding.line, finding.message, rule.name);
            findings += 1;
        }
    }
    ensure!(findings == 0, "tidy: {findings} findings; the rules are in xtask/src/tidy/rules.rs");
    println!("tidy: {} rules, {} files, nothing to mend", RULES.len(), tree.files.len());
    Ok(())
}
