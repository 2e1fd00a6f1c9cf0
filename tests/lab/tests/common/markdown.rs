//! Blocks of code and commands in the book's pages.

/// The blocks of code of a page in one of these languages.
pub(crate) fn blocks<'a>(page: &'a str, languages: &[&str]) -> Vec<(&'a str, &'a str)> {
    let blocks = page.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    blocks.filter(|(language, _)| languages.contains(language)).collect()
}

/// The commands of a page, each with its continuation lines.
pub(crate) fn commands(page: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for (language, block) in blocks(page, &["sh", "console"]) {
        let mut open = false;
        for line in block.lines() {
            let begins = match language {
                "console" => line.strip_prefix("$ "),
                _ => Some(line).filter(|line| !line.is_empty() && !line.starts_with('#')),
            };
            match (open, begins) {
                (true, _) => *commands.last_mut().expect("a line was open") += &format!("\n{line}"),
                (false, Some(command)) => commands.push(command.to_owned()),
                (false, None) => {}
            }
            open = (open || begins.is_some()) && (line.ends_with('\\') || line.ends_with('|'));
        }
    }
    commands
}
