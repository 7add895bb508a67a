//! Random graphs: cached or not, what comes out is the same.

use proptest::prelude::*;

use crate::fakes::{Behaviour, Bench, Fake, reader, source, step, vertex};

/// For each vertex after the sources: its inputs as positions, modulo what there is, and whether the first is content.
fn shapes() -> impl Strategy<Value = Vec<(Vec<usize>, bool)>> {
    prop::collection::vec((prop::collection::vec(any::<usize>(), 1..3), any::<bool>()), 1..12)
}

fn graph(shapes: &[(Vec<usize>, bool)], contents: &[String]) -> Vec<Fake> {
    let mut vertices: Vec<Fake> = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        vertices.push(if number % 2 == 0 {
            source(&format!("source {number}"), content)
        } else {
            vertex(&format!("context {number}"), &[], Behaviour::Unnamed(content.clone()))
        });
    }
    for (number, (inputs, content)) in shapes.iter().enumerate() {
        let inputs: Vec<&Fake> = inputs.iter().map(|input| &vertices[input % vertices.len()]).collect();
        let name = format!("step {}", number % 4);
        let next = if *content { reader(&name, &inputs, 0) } else { step(&name, &inputs) };
        if vertices.iter().all(|known| known.digest != next.digest) {
            vertices.push(next);
        }
    }
    vertices
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_cached_solve_equals_an_uncached_one(
        shapes in shapes(),
        edits in prop::collection::vec(prop::collection::vec("[ab]", 4), 1..5),
    ) {
        let mut cached = Bench::new();
        for contents in &edits {
            let vertices = graph(&shapes, contents);
            let all: Vec<&Fake> = vertices.iter().collect();
            let expected = Bench::new().solve(&all, &all);
            prop_assert_eq!(cached.solve(&all, &all), expected);
        }
    }
}
