//! Numbers far from zero, the processor's operation, evaluation, and what is no number.

use super::*;

/// Statistics where the mean is far from 0, and where the first rows are far from all others.
#[test]
fn statistics_lose_nothing_far_from_zero() {
    for (is_far, folded) in [(true, false), (true, true), (false, false)] {
        let mut case = Case::new(40, 70, 8, Element::F32);
        case.partition = Partition { folded, ..Partition::cut(case.rows(), 4, 256) };
        let mut inputs = case.inputs();
        for (at, (x, noise)) in inputs.x.iter_mut().zip(draw(case.len(), 11)).enumerate() {
            let is_first = at / 8 % 350 < 64;
            *x = 0.17 * noise
                + if is_far {
                    100.0
                } else if is_first {
                    1000.0
                } else {
                    0.0
                };
        }
        let expected = case.expected(&inputs);
        let results = case.run(&inputs, Order::FORWARD);
        for which in [1, 2, 3, 4] {
            for (got, expected) in results[which].iter().zip(&expected[which]) {
                let error = ((f64::from(*got) - expected) / expected).abs();
                assert!(
                    error < if is_far { 3e-7 } else { 1e-6 },
                    "{}: {got} for {expected}, off by {error:e}",
                    NAMES[which]
                );
            }
        }
    }
}

/// The processor's operation on the same numbers; its maps are height × images × width × channels.
#[test]
fn agrees_with_the_processor() {
    for activation in [Activation::Identity, Activation::Relu, Activation::Silu] {
        for has_residual in [false, true] {
            let mut case = Case::new(10, 6, 21, Element::F32);
            case.norm.activation = activation;
            (case.has_residual, case.outlet) = (has_residual, Outlet::InputOverDy);
            let inputs = case.inputs();
            let got = case.run(&inputs, Order::FORWARD);
            let expected = on_the_processor(&case, &inputs);
            for ((name, got), expected) in NAMES.iter().zip(&got).zip(&expected) {
                let wide: Vec<f64> = expected.iter().map(|value| f64::from(*value)).collect();
                let error = relative(got, &wide);
                assert!(error < 1e-6, "{name} is off by {error:e}: {case:?}");
            }
        }
    }
}

fn on_the_processor(case: &Case, inputs: &Inputs) -> Results<f32> {
    let Norm { images, positions, channels, activation, .. } = case.norm;
    let shape = Shape::Map { channels, height: HEIGHT, width: positions / HEIGHT };
    let batch = Batch::new(shape, images, 2);
    let rows_first = |images: &[f32]| {
        let mut out = vec![f32::NAN; images.len()];
        batch.from_images(images, &mut out);
        out
    };
    let images_first = |rows: &[f32]| -> Vec<f32> {
        let starts = (0..images).flat_map(|image| (0..HEIGHT).map(move |row| (row, image)));
        starts.flat_map(|(row, image)| &rows[batch.offset(row, image)..][..batch.row_len()]).copied().collect()
    };
    let [x, residual, mut dz] = [&inputs.x, &inputs.residual, &inputs.dy].map(|values| rows_first(values));
    let residual = case.has_residual.then_some(&residual[..]);
    let affine = Affine { scale: &inputs.scale, shift: &inputs.shift };
    let mut norm = Normalization::new(batch, BatchNormScope::View);
    let (mut running_mean, mut running_var) = (vec![0.5; channels], vec![2.0; channels]);
    cpu::sum(&mut norm, &x);
    norm.finish_statistics(Some([&mut running_mean, &mut running_var]));
    let mut y = vec![f32::NAN; x.len()];
    cpu::forward(&norm, affine, activation, &x, residual, &mut y);
    let derivative = match (activation, residual) {
        (Activation::Identity, _) => Derivative::Identity,
        (Activation::Relu, None) => Derivative::ReluOfInput,
        (Activation::Relu, Some(_)) => Derivative::ReluOfOutput { y: &y },
        (Activation::Silu, residual) => Derivative::Silu { residual },
    };
    cpu::backward_sums(&mut norm, affine, &x, derivative, &mut dz);
    let (mut d_scale, mut d_shift) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
    norm.finish_gradients(&mut d_scale, &mut d_shift);
    let mut dx = vec![f32::NAN; x.len()];
    input_gradient::backward_input(&norm, affine, &x, derivative, &mut dz, InputGradient::Write(&mut dx));
    // ReLU without a residual leaves dy as it is and masks it again in each pass.
    if matches!(derivative, Derivative::ReluOfInput) {
        dz.iter_mut().zip(&y).for_each(|(dz, y)| *dz = if *y > 0.0 { *dz } else { 0.0 });
    }
    let Statistics { mean, inverse_std } = norm.statistics;
    let maps = [&y, &dx, &dz].map(|map| images_first(map));
    let [y, dx, d_residual] = maps;
    [y, mean, inverse_std, running_mean, running_var, d_scale, d_shift, dx, d_residual]
}

#[test]
fn evaluation_uses_the_running_statistics() {
    for (order, element) in Order::SEVERAL.into_iter().zip([Element::F32, Element::Bf16, Element::F32, Element::Bf16]) {
        let mut case = Case::new(7, 1, 9, element);
        case.norm.activation = Activation::Silu;
        let inputs = case.inputs();
        let mut gpu = Emulator::with(order, &[SOURCE], element);
        let [x, residual, y] =
            [&inputs.x, &inputs.residual, &vec![9.0; 63]].map(|values| gpu.place_stored(values, element));
        let var: Vec<f32> = draw(9, 21).iter().map(|var| var + 1.25).collect();
        let running = [gpu.place_f32(&inputs.shift), gpu.place_f32(&var)];
        let none = Address::NONE;
        let (scale, shift) = (gpu.place_f32(&inputs.scale), gpu.place_f32(&inputs.shift));
        let parts = Parts { scale, shift, mean: none, inverse_deviation: none, scratch: none };
        gpu.run(&cuda::evaluate(&case.norm, &parts, x, Some(residual), running, y)).expect("a kernel");
        let mut statistics = Statistics::new(9);
        statistics.set_running(&inputs.shift, &var);
        let batch = Batch::new(Shape::Vector { width: 9 }, 7, 1);
        let affine = Affine { scale: &inputs.scale, shift: &inputs.shift };
        let mut expected = vec![f32::NAN; 63];
        let pair = (&inputs.x[..], Some(&inputs.residual[..]));
        cpu::evaluate(&batch, affine, &statistics, Activation::Silu, pair, &mut expected);
        let tolerance = if element == Element::F32 { 1e-6 } else { 1.0 / 256.0 };
        for (got, expected) in gpu.read(y, 63, element).iter().zip(expected) {
            assert!((got - expected).abs() <= tolerance * (1.0 + expected.abs()), "{got} for {expected}");
        }
        assert_eq!(gpu.read_f32(running[0], 9), inputs.shift);
    }
}

#[test]
fn not_a_number_stays_in_its_channel() {
    let mut case = Case::new(4, 2, 3, Element::F32);
    let mut inputs = case.inputs();
    inputs.x[1] = f32::NAN;
    for activation in [Activation::Identity, Activation::Relu, Activation::Silu] {
        case.norm.activation = activation;
        let y = &case.run(&inputs, Order::FORWARD)[0];
        for (at, y) in y.iter().enumerate() {
            assert_eq!(y.is_nan(), at < 12 && at % 3 == 1, "{activation:?} at {at}");
        }
    }
}

#[test]
fn no_images_leave_no_gradient() {
    let case = Case::new(0, 4, 3, Element::F32);
    let mut gpu = Emulator::with(Order::FORWARD, &[SOURCE], Element::F32);
    let place = gpu.place_f32(&[7.0; 6]);
    let none = Address::NONE;
    let parts = Parts { scale: none, shift: none, mean: none, inverse_deviation: none, scratch: none };
    assert!(cuda::forward(&case.norm, &parts, none, None, None, none).is_empty());
    let backward = Backward {
        x: none,
        y: none,
        residual: none,
        has_residual: false,
        dy: none,
        dx: Delivery::Write(none),
        d_residual: Delivery::Skip,
        d_scale: place,
        d_shift: place.offset(12),
    };
    gpu.run(&cuda::backward(&case.norm, &parts, &backward)).expect("zeros");
    assert_eq!(gpu.read_f32(place, 6), [0.0; 6]);
}

#[test]
fn scratch_holds_the_parts() {
    for (images, positions, channels) in [(512, 1024, 64), (512, 1, 2048), (2, 1, 3)] {
        let norm = Case::new(images, positions, channels, Element::F32).norm;
        let parts = Partition::of(images / 2 * positions, 2 * channels.div_ceil(64)).parts;
        assert_eq!(norm.scratch_len(), 4 * (parts + 1) * channels);
    }
}
