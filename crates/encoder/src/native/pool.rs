//! The greatest value or the mean of each window, of what lies inside of the image.

use super::direct::Taps;
use super::finish::Finish;
use super::isa::{Isa, Kernel};
use super::layout::Layout;
use super::vector::Vector;

#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub input: Layout,
    pub taps: Taps,
    pub max: bool,
    /// Its bias is zeros.
    pub finish: Finish,
}

impl Pool {
    pub fn run(&self, isa: Isa, input: &[f32], output: &mut [f32]) {
        self.finish.begin(output);
        isa.run(Run { pool: self, input, output });
    }

    /// The inputs of output `at` along axis `n`.
    fn window(&self, n: usize, at: usize) -> std::ops::Range<usize> {
        let image = [self.input.rows, self.input.columns][n];
        let begin = at * self.taps.stride[n];
        let end = (begin + self.taps.kernel[n]).saturating_sub(self.taps.before[n]);
        begin.saturating_sub(self.taps.before[n])..end.min(image)
    }
}

struct Run<'a> {
    pool: &'a Pool,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Run<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Run { pool, input, output } = self;
        let (layout, finish) = (&pool.input, &pool.finish);
        for row in 0..finish.rows {
            let rows = pool.window(0, row);
            for column in 0..finish.columns {
                let columns = pool.window(1, column);
                let share = V::splat(1.0 / (rows.len() * columns.len()) as f32);
                for channel in (0..layout.channels).step_by(V::LANES) {
                    let count = (layout.channels - channel).min(V::LANES);
                    let mut sum = V::splat(if pool.max { f32::NEG_INFINITY } else { 0.0 });
                    for row in rows.clone() {
                        for column in columns.clone() {
                            let value = V::load_part(&input[layout.pixel(row, column) + channel..][..count]);
                            sum = if pool.max { value.max(sum) } else { sum.add(value) };
                        }
                    }
                    let value = if pool.max { sum } else { sum.mul(share) };
                    finish.store(output, row, column, channel, value);
                }
            }
        }
    }
}
