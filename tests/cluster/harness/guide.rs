//! The installation guide: its commands, to be run as they are written.

use std::fs;
use std::path::Path;

/// The commands of the first block below this heading of docs/INSTALL.md.
pub fn commands(heading: &str) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/INSTALL.md");
    let text = fs::read_to_string(&file).expect("the guide is there");
    let below = text.lines().skip_while(|line| line.strip_prefix("## ") != Some(heading)).skip(1);
    let block = below.take_while(|line| !line.starts_with("## ")).skip_while(|line| !line.starts_with("    "));
    let commands: Vec<String> = block.map_while(|line| line.strip_prefix("    ")).map(str::to_owned).collect();
    assert!(!commands.is_empty(), "the guide has no commands below {heading:?}");
    commands
}
