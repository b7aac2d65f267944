//! The kernels against a plain computation, and whole models against the other engines, on each instruction set that this
//! processor has.

use proptest::prelude::*;
use rand::SeedableRng as _;

use super::depthwise::Depthwise;
use super::direct::{Direct, Taps};
use super::finish::{Activation, Finish, Fold};
use super::isa::Isa;
use super::layout::{Border, Layout};
use super::vector::MAX_LANES;
use super::winograd::{self, Winograd};
use crate::operator::walk_axis;

#[derive(Debug, Clone, Copy)]
struct Case {
    image: [usize; 3],
    outputs: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    same: bool,
    fold: Fold,
    slope: f32,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let fold = prop_oneof![Just(Fold::None), Just(Fold::MaxPool), Just(Fold::Mean)];
    (
        ([1_usize..22, 1_usize..22, 1_usize..40], 1_usize..40),
        ([1_usize..5, 1_usize..5], [1_usize..4, 1_usize..4], [1_usize..3, 1_usize..3]),
        (any::<bool>(), fold, prop_oneof![Just(1.0_f32), Just(0.0), Just(0.3)], any::<u64>()),
    )
        .prop_map(|((image, outputs), (kernel, stride, dilation), (same, fold, slope, seed))| Case {
            image,
            outputs,
            kernel,
            stride,
            dilation,
            same,
            fold,
            slope,
            seed,
        })
}

/// A case with all that its kernels take and the answer, or `None` where the kernel does not fit into the image.
struct Prepared {
    case: Case,
    taps: Taps,
    outputs: [usize; 2],
    image: Vec<f32>,
    filter: Vec<f32>,
    bias: Vec<f32>,
    expected: Vec<f32>,
}

impl Prepared {
    fn new(case: Case, multiplier: Option<usize>) -> Option<Prepared> {
        let [rows, columns, channels] = case.image;
        let along = |n: usize| walk_axis(case.image[n], case.kernel[n], case.stride[n], case.dilation[n], case.same);
        let axes = [along(0)?, along(1)?];
        let taps = Taps {
            kernel: case.kernel,
            stride: case.stride,
            dilation: case.dilation,
            before: [axes[0].before, axes[1].before],
        };
        let outputs = [axes[0].outputs, axes[1].outputs];
        if case.fold == Fold::MaxPool && (outputs[0] < 2 || outputs[1] < 2) {
            return None;
        }
        let out = multiplier.map_or(case.outputs, |multiplier| channels * multiplier);
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(case.seed);
        let mut values = |count: usize| (0..count).map(|_| random.random_range(-1.0_f32..1.0)).collect::<Vec<_>>();
        let points = case.kernel[0] * case.kernel[1];
        let (image, bias) = (values(rows * columns * channels), values(out));
        let filter = values(points * out * if multiplier.is_some() { 1 } else { channels });
        let mut prepared = Prepared { case, taps, outputs, image, filter, bias, expected: Vec::new() };
        let plain: Vec<f64> = (0..outputs[0] * outputs[1] * out)
            .map(|n| prepared.plain(n / out / outputs[1], n / out % outputs[1], n % out, out, multiplier))
            .collect();
        prepared.expected = folded(case.fold, &plain, outputs, out);
        Some(prepared)
    }

    /// One output as it is defined.
    fn plain(&self, row: usize, column: usize, output: usize, outputs: usize, multiplier: Option<usize>) -> f64 {
        let [rows, columns, channels] = self.case.image;
        let mut sum = f64::from(self.bias[output]);
        for kernel_row in 0..self.taps.kernel[0] {
            for kernel_column in 0..self.taps.kernel[1] {
                let row = row * self.taps.stride[0] + kernel_row * self.taps.dilation[0];
                let column = column * self.taps.stride[1] + kernel_column * self.taps.dilation[1];
                let (Some(row), Some(column)) =
                    (row.checked_sub(self.taps.before[0]), column.checked_sub(self.taps.before[1]))
                else {
                    continue;
                };
                if row >= rows || column >= columns {
                    continue;
                }
                let point = kernel_row * self.taps.kernel[1] + kernel_column;
                let pixel = &self.image[(row * columns + column) * channels..][..channels];
                sum += match multiplier {
                    Some(multiplier) => {
                        f64::from(pixel[output / multiplier]) * f64::from(self.filter[point * outputs + output])
                    }
                    None => {
                        let points = self.taps.kernel[0] * self.taps.kernel[1];
                        let filter = &self.filter[(output * points + point) * channels..][..channels];
                        pixel.iter().zip(filter).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
                    }
                };
            }
        }
        sum.max(0.0) + f64::from(self.case.slope) * sum.min(0.0)
    }

    fn finish(&self, border: Border) -> Finish {
        let [rows, columns] = self.outputs;
        let [folded_rows, folded_columns] = match self.case.fold {
            Fold::None => self.outputs,
            Fold::MaxPool => [rows / 2, columns / 2],
            Fold::Mean => [1, 1],
        };
        let mut bias = self.bias.clone();
        bias.resize(self.bias.len().next_multiple_of(2 * MAX_LANES), 0.0);
        Finish {
            output: Layout { border, ..Layout::new(folded_rows, folded_columns, self.bias.len()) },
            rows,
            columns,
            activation: Activation { slope: self.case.slope, limit: f32::INFINITY },
            fold: self.case.fold,
            bias,
        }
    }

    /// The image inside of its border, and how it lies.
    fn input(&self, border: Border) -> (Layout, Vec<f32>) {
        let [rows, columns, channels] = self.case.image;
        let layout = Layout { border, ..Layout::new(rows, columns, channels) };
        let mut values = vec![0.0; layout.length()];
        for (row, line) in self.image.chunks_exact(columns * channels).enumerate() {
            values[layout.pixel(row, 0)..][..line.len()].copy_from_slice(line);
        }
        (layout, values)
    }

    /// Runs `kernel` into a buffer of garbage and compares what is inside of the border, which must be zeros.
    fn compare(&self, what: &str, layout: &Layout, kernel: impl FnOnce(&mut [f32])) -> Result<(), TestCaseError> {
        let mut output = vec![f32::NAN; layout.length()];
        kernel(&mut output);
        let line = layout.columns * layout.channels;
        let mut found = Vec::new();
        for row in 0..layout.rows {
            let at = layout.pixel(row, 0);
            found.extend_from_slice(&output[at..at + line]);
            output[at..at + line].fill(0.0);
        }
        prop_assert!(output.iter().all(|&value| value == 0.0), "{what}: a border that is not zeros");
        prop_assert_eq!(found.len(), self.expected.len());
        for (n, (found, expected)) in found.iter().zip(&self.expected).enumerate() {
            let near = (found - expected).abs() <= 2e-4 * (1.0 + expected.abs());
            prop_assert!(near, "{what}: element {n}: expected {expected}, found {found}");
        }
        Ok(())
    }
}

fn folded(fold: Fold, plain: &[f64], [rows, columns]: [usize; 2], out: usize) -> Vec<f32> {
    let at = |row: usize, column: usize, output: usize| plain[(row * columns + column) * out + output];
    match fold {
        Fold::None => plain.iter().map(|&value| value as f32).collect(),
        Fold::MaxPool => (0..rows / 2 * (columns / 2) * out)
            .map(|n| {
                let (row, column, output) = (n / out / (columns / 2) * 2, n / out % (columns / 2) * 2, n % out);
                let upper = at(row, column, output).max(at(row, column + 1, output));
                upper.max(at(row + 1, column, output)).max(at(row + 1, column + 1, output)) as f32
            })
            .collect(),
        Fold::Mean => (0..out)
            .map(|output| {
                let all = (0..rows * columns).map(|n| plain[n * out + output]);
                (all.sum::<f64>() / (rows * columns) as f64) as f32
            })
            .collect(),
    }
}

const WIDE: Border = Border { top: 1, bottom: 2, left: 3, right: 1 };

fn check_direct(case: Case) -> Result<(), TestCaseError> {
    let Some(prepared) = Prepared::new(case, None) else { return Ok(()) };
    let (layout, input) =
        prepared.input(prepared.taps.border(prepared.outputs, [case.image[0], case.image[1]]).union(WIDE));
    for isa in Isa::available() {
        let finish = prepared.finish(if case.fold == Fold::Mean { Border::default() } else { WIDE });
        let output = finish.output;
        let direct = Direct::new(isa, layout, prepared.taps, &prepared.filter, finish);
        prepared.compare(isa.name(), &output, |output| direct.run(isa, &input, output))?;
    }
    Ok(())
}

fn check_winograd(case: Case) -> Result<(), TestCaseError> {
    let case = Case { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], ..case };
    let Some(prepared) = Prepared::new(case, None) else { return Ok(()) };
    let before = usize::from(case.same);
    let [rows, columns] = prepared.outputs;
    // Of an image of one row or column SAME puts one zero before it, and one behind.
    let border = winograd::border(rows, columns, (case.image[0], case.image[1]), before);
    let (layout, input) = prepared.input(border.union(WIDE));
    for isa in Isa::available() {
        let finish = prepared.finish(if case.fold == Fold::Mean { Border::default() } else { WIDE });
        let output = finish.output;
        let conv = Winograd::new(isa, layout, before, &prepared.filter, finish);
        let length = winograd::scratch_length(case.image[2], rows.div_ceil(4) * columns.div_ceil(4), isa.lanes());
        let mut scratch = vec![f32::NAN; length.unwrap()];
        prepared.compare(isa.name(), &output, |output| conv.run(isa, &input, output, &mut scratch))?;
    }
    Ok(())
}

fn check_depthwise(case: Case) -> Result<(), TestCaseError> {
    let multiplier = 1 + case.outputs % 3;
    let Some(prepared) = Prepared::new(Case { fold: Fold::None, ..case }, Some(multiplier)) else { return Ok(()) };
    let (layout, input) = prepared.input(prepared.taps.border(prepared.outputs, [case.image[0], case.image[1]]));
    for isa in Isa::available() {
        let finish = prepared.finish(WIDE);
        let output = finish.output;
        let conv = Depthwise::new(layout, prepared.taps, prepared.filter.clone().into(), finish);
        prepared.compare(isa.name(), &output, |output| conv.run(isa, &input, output))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn direct_convolutions_are_right(case in cases()) {
        check_direct(case)?;
    }

    #[test]
    fn winograds_convolutions_are_right(case in cases()) {
        check_winograd(case)?;
    }

    #[test]
    fn depthwise_convolutions_are_right(case in cases()) {
        check_depthwise(case)?;
    }
}

#[test]
fn an_image_of_one_pixel_is_convolved() {
    let case = Case {
        image: [1, 1, 1],
        outputs: 1,
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        same: true,
        fold: Fold::None,
        slope: 1.0,
        seed: 7,
    };
    check_direct(case).unwrap();
    check_winograd(case).unwrap();
    check_depthwise(case).unwrap();
}
