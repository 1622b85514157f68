//! Objects as text that kubectl reads.

use super::Rendered;

/// How the objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Documents with their notes; what is held back is a comment.
    Yaml,
    /// One `List` of what is not held back.
    Json,
}

/// Widest line of a note.
const NOTE_WIDTH: usize = 110;

/// The text of all objects.
///
/// # Errors
/// The serializer refuses an object; no object of this room makes it.
pub fn to_text(rendered: &Rendered, format: Format) -> anyhow::Result<String> {
    match format {
        Format::Yaml => yaml(rendered),
        Format::Json => {
            let items: Vec<_> = rendered.manifests.iter().filter(|m| !m.held_back).map(|m| &m.object).collect();
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
            Ok(format!("{list:#}\n"))
        }
    }
}

fn yaml(rendered: &Rendered) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut is_first = true;
    for manifest in &rendered.manifests {
        if !is_first && !manifest.held_back {
            text += "---\n";
        }
        if manifest.held_back && !text.is_empty() {
            text += "#\n";
        }
        for note in &manifest.notes {
            text += &comment(note);
        }
        let body = serde_saphyr::to_string(&manifest.object)?;
        if manifest.held_back {
            text += &body.lines().map(|line| format!("#   {line}\n")).collect::<String>();
        } else {
            text += &body;
            is_first = false;
        }
    }
    Ok(text)
}

/// A sentence in lines of a readable width.
fn comment(note: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in note.split_whitespace() {
        if line.len() + 1 + word.len() > NOTE_WIDTH {
            lines += &line;
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line += word;
    }
    lines + &line + "\n"
}
