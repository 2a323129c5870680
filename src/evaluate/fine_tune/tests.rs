//! Fine-tuning of an encoder that nobody trained: what it starts from, what it sees, what it learns, and how it is left.

mod golden;

use super::*;
use crate::data;
use crate::device::Pool;
use crate::evaluate::answer::{Answer, Subject};
use crate::evaluate::answer_tests::{answers, encoder, others, run};
use crate::experiment::recipe::Head as HeadRecipe;
use crate::experiment::run::Run;
use crate::model::initialize::initialize;

fn told(answer: &Answer) -> &Outcome {
    answer.told_apart.as_ref().expect("images told apart")
}

/// Of larger parts than those of the other evaluations.
fn larger(evaluate: &str) -> Run {
    let mut run = run(evaluate);
    let recipe::Dataset::Builtin(builtin) = &mut run.dataset else { panic!("the built-in set") };
    (builtin.train_per_class, builtin.test_per_class) = (24, 12);
    run
}

#[test]
fn it_learns_and_a_rate_of_0_does_not() {
    let run =
        larger("[FineTune(epochs: 6, batch: 16, augment: None), FineTune(epochs: 1, batch: 16, learning_rate: 0)]");
    let dataset = data::load(&run.dataset, run.split).expect("the built-in set");
    let found = answers(&run, &dataset, 2);
    let [learnt, still] = [&found[0], &found[1]].map(told);
    assert!(learnt.top1 > 0.5, "{} of four classes", learnt.top1);
    // A classifier of zeros takes every image for one of the first class.
    assert!(still.predictions.iter().all(|class| *class == 0));
    assert_eq!((still.top1, still.top5), (0.25, 1.0));
    assert_eq!(found[0].metrics[0].value, learnt.top1);
    assert_eq!((found[0].n_test, found[0].class_names.len()), (48, 4));
}

#[test]
fn every_setting_counts_and_threads_do_not() {
    let settings = [
        "batch: 8",
        "batch: 8, seed: 1",
        "batch: 8, labels: 0.5",
        "batch: 8, augment: None",
        "batch: 8, momentum: 0",
        "batch: 8, weight_decay: 0.5",
        "batch: 8, learning_rate: 0.02",
        "batch: 6",
    ];
    let asked: Vec<String> = settings.iter().map(|fields| format!("FineTune(epochs: 2, {fields})")).collect();
    let run = run(&format!("[{}]", asked.join(", ")));
    let dataset = data::load(&run.dataset, run.split).expect("the built-in set");
    assert_eq!(answers(&run, &dataset, 1), answers(&run, &dataset, 3), "threads changed an answer");
    let pool = Pool::new(2);
    let tuned: Vec<State> = run.evaluate.iter().map(|evaluation| trained(&run, &dataset, evaluation, &pool)).collect();
    for (index, state) in tuned.iter().enumerate() {
        assert!(tuned[..index].iter().all(|other| other.parameters != state.parameters), "{}", settings[index]);
        assert!(state.parameters.iter().all(|value| value.is_finite()));
    }
}

/// The state that fine-tuning ends in.
fn trained(run: &Run, dataset: &data::Dataset, evaluation: &recipe::Evaluation, pool: &Pool) -> State {
    let recipe::Evaluation::FineTune(tuning) = evaluation else { panic!("a fine-tuning") };
    let (mut of_run, mut kernels, mut go_on) = (encoder(run), Default::default(), || true);
    let before = of_run.save();
    let mut asking = Asking {
        run,
        dataset,
        pool,
        layer: Layer::Backbone,
        state: None,
        executor: &mut of_run,
        kernels: &mut kernels,
        go_on: &mut go_on,
    };
    let mut course = Course::new(&mut asking, tuning).expect("an executor");
    while !course.is_over() {
        course.step(&asking).expect("a loss");
    }
    assert_eq!(before, of_run.save(), "the run's own encoder stays as it is");
    course.executor.save()
}

/// Whatever head the encoder was trained with, a classifier among them.
#[test]
fn it_starts_from_the_encoder_alone() {
    let trained = run("[FineTune(batch: 8)]");
    let wanted = registry::plan(&Model { head: HeadRecipe::Classifier { n_classes: 4 }, ..trained.model.clone() });
    let wanted = wanted.expect("a compiled model");
    for head in [HeadRecipe::None, trained.model.head, HeadRecipe::Classifier { n_classes: 4 }] {
        let plan = registry::plan(&Model { head, ..trained.model.clone() }).expect("a compiled model");
        let (parameters, mut buffers) = initialize(&plan, trained.model.initialization, 7);
        buffers.iter_mut().enumerate().for_each(|(index, value)| *value += index as f32);
        let state = |parameters, buffers| State { parameters, buffers, optimizer: vec![], bank: vec![], step: 9 };
        let from = state(parameters, buffers);
        let found = start(state(vec![], vec![]), &wanted, &from);
        assert_eq!((found.step, found.buffers.len()), (0, wanted.n_buffers()));
        assert_eq!(found.buffers, from.buffers[..wanted.n_buffers()]);
        for parameter in &wanted.parameters {
            let values = &found.parameters[parameter.range()];
            match plan.parameters.iter().find(|other| other.name == parameter.name && !other.name.starts_with("fc.")) {
                Some(other) => assert_eq!(values, &from.parameters[other.range()], "{}", parameter.name),
                None => assert!(parameter.name.starts_with("fc.") && values.iter().all(|value| *value == 0.0)),
            }
        }
    }
}

#[test]
fn every_epoch_has_every_labelled_image_in_an_order_of_its_own() {
    let examples = [3, 5, 8, 9, 20];
    let mut order = Order { examples: examples.to_vec(), seed: 4, epoch: None, permuted: Vec::new() };
    let mut seen = vec![Vec::new(); 3];
    let mut position = 0;
    while position < 15 {
        // Batches of 4, which reach from one epoch into the next.
        let (epoch, chosen) = order.from(position, (4 - position % 4) as usize);
        assert!(!chosen.is_empty());
        seen[epoch as usize].extend_from_slice(chosen);
        position += chosen.len() as u64;
    }
    assert_ne!(seen[0], seen[1]);
    for mut epoch in seen {
        epoch.sort_unstable();
        assert_eq!(epoch, examples);
    }
}

#[test]
fn it_can_be_left_at_every_step_and_begins_anew() {
    let run = run("[FineTune(epochs: 2, batch: 8)]");
    let dataset = data::load(&run.dataset, run.split).expect("the built-in set");
    let expected = &answers(&run, &dataset, 1)[0];
    let pool = Pool::new(1);
    let (mut executor, mut subject) = (encoder(&run), Subject::new(&run, &dataset, &pool, others()));
    let mut asked_max = 0;
    let found = loop {
        let mut asked = 0;
        let go_on = &mut || {
            asked += 1;
            asked <= asked_max
        };
        match subject.answer(&run.evaluate[0], &mut executor, go_on).expect("no failure") {
            None => asked_max += 1,
            Some(answer) => break answer,
        }
    };
    // Two epochs of three steps, and the test images.
    assert!(asked_max >= 7, "it was asked {asked_max} times only");
    assert_eq!(&found, expected);
}

#[test]
fn a_rate_far_too_high_is_a_failure_with_its_step() {
    let run = run("[FineTune(epochs: 9, batch: 8, learning_rate: 1e30)]");
    let dataset = data::load(&run.dataset, run.split).expect("the built-in set");
    let (pool, mut executor) = (Pool::new(1), encoder(&run));
    let found = Subject::new(&run, &dataset, &pool, others()).answer(&run.evaluate[0], &mut executor, &mut || true);
    let said = found.expect_err("a divergence").to_string();
    assert!(said.starts_with("fine-tuning diverged at step ") && said.contains("which was 1000000"), "{said}");
}
