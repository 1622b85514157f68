//! Writes the files of a report.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::simulate::replay::{Comparison, Report};

/// All files of the report into `folder`, which is made where it is not there.
pub fn write(folder: &Path, comparison: &Comparison) -> Result<()> {
    let report = Report::new(comparison).context("nothing was run")?;
    let failed = || format!("--report {}", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    for (name, contents) in report.files().with_context(failed)? {
        let path = folder.join(name);
        fs::write(&path, contents).with_context(|| format!("--report {}", path.display()))?;
    }
    Ok(())
}
