//! `pagetrace doctor`: every source has an answer, and what does not work has advice.

use serde_json::Value;

use crate::output_of;

#[test]
fn every_source_has_an_answer() {
    let answers: Value = serde_json::from_str(&output_of(&["doctor", "--json"])).expect("JSON");
    let answers = answers.as_array().expect("a list");
    assert!(!answers.is_empty());
    let text = output_of(&["doctor"]);
    for answer in answers {
        let (name, works) = (answer["name"].as_str().expect("a name"), answer["works"].as_bool().expect("an answer"));
        assert!(text.contains(name), "expected {name:?} in {text}");
        assert!(works || answer["advice"].is_string(), "{name} does not work and has no advice");
        assert!(answer["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{name}");
    }
}
