//! What tidy has to know of Rust's text: which part of a line is code, and where a word stands in it.

/// The line without comments, and without what is between quotes. Strings over several lines are not followed.
pub fn code_of(line: &str) -> String {
    let mut code = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    let mut in_string = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_string => {
                characters.next();
            }
            '"' => {
                in_string = !in_string;
                code.push('"');
            }
            _ if in_string => {}
            '/' if characters.peek() == Some(&'/') => break,
            '\'' if characters.peek() == Some(&'"') => {
                characters.next();
            }
            other => code.push(other),
        }
    }
    code
}

/// What follows each place where `word` stands on its own.
pub fn after_word<'line>(line: &'line str, word: &'line str) -> impl Iterator<Item = &'line str> {
    let in_word = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).filter_map(move |(start, _)| {
        let after = &line[start + word.len()..];
        let alone = !line[..start].ends_with(in_word) && !after.starts_with(in_word);
        alone.then_some(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        let cases = [
            ("let a = 1; // why", "let a = 1; "),
            (r#"print("a // \" b", c)"#, r#"print("", c)"#),
            (r#"find('"', "x") + 'y'"#, r#"find(', "") + 'y'"#),
            ("/// a doc", ""),
        ];
        for (line, code) in cases {
            assert_eq!(code_of(line), code, "{line}");
        }
    }

    #[test]
    fn a_word_stands_on_its_own() {
        assert_eq!(after_word("word words sword word(", "word").collect::<Vec<_>>(), [" words sword word(", "("]);
        assert_eq!(after_word("a_word word_b", "word").count(), 0);
    }
}
