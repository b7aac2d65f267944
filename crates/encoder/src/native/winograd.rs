//! 3 x 3 convolutions by Winograd's F(4x4, 3x3): 36 multiplications where a direct one needs 144.
//!
//! Each tile of 4 x 4 outputs is computed from 6 x 6 inputs, which are transformed into 36 points; point by point, that
//! is a product of matrices (tiles x inputs) x (inputs x outputs); a second transform turns the 36 sums into the outputs.
//! The interpolation points are 0, +-3/4, +-3/2 and infinity, a little more exact in f32 than 0, +-1, +-2.
#![allow(clippy::needless_range_loop, reason = "registers are counted; what iterators are given may be compiled apart")]

use super::finish::{Finish, Fold};
use super::isa::{Isa, Kernel};
use super::layout::{Border, Layout};
use super::vector::Vector;

const A: f32 = 0.75;
const B: f32 = 1.5;
const POINTS: usize = 36;
/// Outputs of a tile along one axis, and the inputs that they need.
const TILE: usize = 4;
const PATCH: usize = 6;
/// Planes of one point each are this much longer than they need be, for them not to fall on the same sets of the cache.
const SKEW: usize = 16;
/// Values of transformed tiles that stay in the cache.
const CACHED: usize = 1 << 16;

/// A 3 x 3 convolution of stride 1, ready to run.
#[derive(Debug, Clone)]
pub(super) struct Winograd {
    input: Layout,
    /// Zeros that are read before the image's first pixel: of SAME 1, of VALID 0.
    before: Border,
    finish: Finish,
    lanes: usize,
    /// By block of outputs, point, input, output within the block.
    weights: Vec<f32>,
    /// Tiles that are computed at a time.
    at_once: usize,
    across: usize,
    tiles: usize,
}

/// What a convolution reads beyond its image: `before` at the top and on the left, and whole tiles at the other ends.
pub(super) fn border(rows: usize, columns: usize, image: (usize, usize), before: usize) -> Border {
    let after =
        |outputs: usize, inputs: usize| (outputs.div_ceil(TILE) * TILE + PATCH - TILE).saturating_sub(before + inputs);
    Border { top: before, bottom: after(rows, image.0), left: before, right: after(columns, image.1) }
}

/// Values that the weights take.
pub(super) fn weights_length(inputs: usize, outputs: usize, lanes: usize) -> Option<usize> {
    outputs.div_ceil(2 * lanes).checked_mul(2 * lanes)?.checked_mul(inputs)?.checked_mul(POINTS)
}

fn tiles_at_once(inputs: usize, lanes: usize) -> usize {
    // Whole groups of the micro-kernels, 6 and 8 at a time.
    (CACHED / (POINTS * (inputs + 2 * lanes)) / 24 * 24).clamp(12, 72)
}

/// Values that [`Winograd::run`] needs to work in.
pub(super) fn scratch_length(inputs: usize, tiles: usize, lanes: usize) -> Option<usize> {
    let tiles = tiles.min(tiles_at_once(inputs, lanes));
    let plane = inputs.next_multiple_of(lanes).checked_add(2 * lanes)?.checked_mul(tiles)?.checked_add(2 * SKEW)?;
    plane.checked_mul(POINTS)
}

impl Winograd {
    /// `filter` is `[outputs][3][3][inputs]`; the input's border is at least that of [`border`].
    pub fn new(isa: Isa, input: Layout, before: usize, filter: &[f32], finish: Finish) -> Winograd {
        let lanes = isa.lanes();
        let across = finish.columns.div_ceil(TILE);
        let tiles = across * finish.rows.div_ceil(TILE);
        let (inputs, outputs, block) = (input.channels, finish.output.channels, 2 * lanes);
        let mut weights = vec![0.0; outputs.div_ceil(block) * POINTS * inputs * block];
        isa.run(Prepare { filter, inputs, outputs, block, packed: &mut weights });
        Winograd {
            before: Border { top: before, left: before, ..Border::default() },
            lanes,
            weights,
            at_once: tiles.min(tiles_at_once(input.channels, lanes)),
            across,
            tiles,
            input,
            finish,
        }
    }

    /// Inputs of one tile at one point, in whole vectors.
    fn depth(&self) -> usize {
        self.input.channels.next_multiple_of(self.lanes)
    }

    #[inline]
    fn plane(&self) -> usize {
        self.at_once * self.depth() + SKEW
    }

    fn sums_plane(&self) -> usize {
        self.at_once * 2 * self.lanes + SKEW
    }

    pub fn run(&self, isa: Isa, input: &[f32], output: &mut [f32], scratch: &mut [f32]) {
        let (points, sums) = scratch.split_at_mut(POINTS * self.plane());
        let sums = &mut sums[..POINTS * self.sums_plane()];
        self.finish.begin(output);
        for first in (0..self.tiles).step_by(self.at_once) {
            let tiles = first..(first + self.at_once).min(self.tiles);
            isa.run(Transform { conv: self, tiles: tiles.clone(), input, points });
            for block in 0..self.finish.output.channels.div_ceil(2 * self.lanes) {
                isa.run(Multiply { conv: self, tiles: tiles.len(), block, points, sums });
                isa.run(Restore { conv: self, tiles: tiles.clone(), block, sums, output });
            }
        }
        self.finish.end(output);
    }
}

/// G g G^T for each pair of input and output, in f64, packed as the product reads them.
struct Prepare<'a> {
    filter: &'a [f32],
    inputs: usize,
    outputs: usize,
    block: usize,
    packed: &'a mut [f32],
}

/// Outputs whose weights are transformed side by side.
const WEIGHTS: usize = 8;

impl Kernel for Prepare<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Prepare { filter, inputs, outputs, block, packed } = self;
        let g = weight_transform();
        // Whole rows of the packed weights at a time: the points' planes may fall on the same sets of the cache.
        for (number, packed) in packed.chunks_exact_mut(POINTS * inputs * block).enumerate() {
            for input in 0..inputs {
                for within in (0..block).step_by(WEIGHTS) {
                    let first = number * block + within;
                    let mut taps = [[0.0_f64; WEIGHTS]; 9];
                    for n in 0..outputs.saturating_sub(first).min(WEIGHTS) {
                        let filter = &filter[(first + n) * 9 * inputs + input..];
                        for tap in 0..9 {
                            taps[tap][n] = f64::from(filter[tap * inputs]);
                        }
                    }
                    for (point, values) in transformed(&g, &taps).iter().enumerate() {
                        packed[(point * inputs + input) * block + within..][..WEIGHTS].copy_from_slice(values);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn transformed(g: &[[f64; 3]; PATCH], taps: &[[f64; WEIGHTS]; 9]) -> [[f32; WEIGHTS]; POINTS] {
    let mut points = [[0.0; WEIGHTS]; POINTS];
    for i in 0..PATCH {
        let mut half = [[0.0; WEIGHTS]; 3];
        for column in 0..3 {
            for n in 0..WEIGHTS {
                half[column][n] =
                    g[i][0] * taps[column][n] + g[i][1] * taps[3 + column][n] + g[i][2] * taps[6 + column][n];
            }
        }
        for j in 0..PATCH {
            for n in 0..WEIGHTS {
                let value = g[j][0] * half[0][n] + g[j][1] * half[1][n] + g[j][2] * half[2][n];
                points[i * PATCH + j][n] = value as f32;
            }
        }
    }
    points
}

fn weight_transform() -> [[f64; 3]; PATCH] {
    let (a, b) = (f64::from(A), f64::from(B));
    let row = |point: f64, norm: f64| [1.0 / norm, point / norm, point * point / norm];
    let (at_a, at_b) = (2.0 * a * a * (a * a - b * b), 2.0 * b * b * (b * b - a * a));
    [row(0.0, a * a * b * b), row(a, at_a), row(-a, at_a), row(b, at_b), row(-b, at_b), [0.0, 0.0, 1.0]]
}

/// B^T along one axis.
#[inline(always)]
fn transform<V: Vector>(d: [V; PATCH]) -> [V; PATCH] {
    let (a2, b2) = (V::splat(-A * A), V::splat(-B * B));
    let (product, sum) = (V::splat(A * A * B * B), V::splat(-(A * A + B * B)));
    let even_a = d[2].mul_add(b2, d[4]);
    let odd_a = d[1].mul_add(b2, d[3]).mul(V::splat(A));
    let even_b = d[2].mul_add(a2, d[4]);
    let odd_b = d[1].mul_add(a2, d[3]).mul(V::splat(B));
    [
        d[0].mul_add(product, d[2].mul_add(sum, d[4])),
        even_a.add(odd_a),
        even_a.sub(odd_a),
        even_b.add(odd_b),
        even_b.sub(odd_b),
        d[1].mul_add(product, d[3].mul_add(sum, d[5])),
    ]
}

/// A^T along one axis.
#[inline(always)]
fn restore<V: Vector>(m: [V; PATCH]) -> [V; TILE] {
    let (even_a, odd_a) = (m[1].add(m[2]), m[1].sub(m[2]));
    let (even_b, odd_b) = (m[3].add(m[4]), m[3].sub(m[4]));
    [
        m[0].add(even_a).add(even_b),
        odd_b.mul_add(V::splat(B), odd_a.mul(V::splat(A))),
        even_b.mul_add(V::splat(B * B), even_a.mul(V::splat(A * A))),
        odd_b.mul_add(V::splat(B * B * B), odd_a.mul_add(V::splat(A * A * A), m[5])),
    ]
}

/// Along the other axis. With loops: what `map` is given is compiled apart, without the instruction set.
#[inline(always)]
fn whole_tile<V: Vector>(columns: [[V; PATCH]; TILE]) -> [[V; TILE]; TILE] {
    let mut tile = [[V::splat(0.0); TILE]; TILE];
    for (tile, m) in tile.iter_mut().zip(columns) {
        *tile = restore(m);
    }
    tile
}

/// Inputs of tiles to their points.
struct Transform<'a> {
    conv: &'a Winograd,
    tiles: std::ops::Range<usize>,
    input: &'a [f32],
    points: &'a mut [f32],
}

impl Kernel for Transform<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Transform { conv, tiles, input, points } = self;
        let (channels, stride) = (conv.input.channels, conv.input.row_stride());
        let (depth, plane) = (conv.depth(), conv.plane());
        let corner = conv.input.corner(conv.before);
        for (number, tile) in tiles.enumerate() {
            let (row, column) = (tile / conv.across * TILE, tile % conv.across * TILE);
            let patch = &input[corner + row * stride + column * channels..];
            for channel in (0..channels).step_by(V::LANES) {
                let mut half = [[V::splat(0.0); PATCH]; PATCH];
                let whole = channel + V::LANES <= channels;
                for j in 0..PATCH {
                    let mut d = [V::splat(0.0); PATCH];
                    for (i, d) in d.iter_mut().enumerate() {
                        let at = i * stride + j * channels + channel;
                        *d = if whole {
                            V::load(&patch[at..])
                        } else {
                            V::load_part(&patch[at..at + channels - channel])
                        };
                    }
                    let d = transform(d);
                    for i in 0..PATCH {
                        half[i][j] = d[i];
                    }
                }
                let place = &mut points[number * depth + channel..];
                for (i, half) in half.into_iter().enumerate() {
                    for (j, value) in transform(half).into_iter().enumerate() {
                        value.store(&mut place[(i * PATCH + j) * plane..]);
                    }
                }
            }
        }
    }
}

/// At each point the tiles' inputs times one block of outputs.
struct Multiply<'a> {
    conv: &'a Winograd,
    tiles: usize,
    block: usize,
    points: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for Multiply<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Multiply { conv, tiles, block, points, sums } = self;
        let (depth, width) = (conv.depth(), 2 * V::LANES);
        let weights = conv.input.channels * width;
        let most = if V::REGISTERS >= 32 { 8 } else { 6 };
        let groups = tiles.div_ceil(most);
        for point in 0..POINTS {
            let points = &points[point * conv.plane()..];
            let sums = &mut sums[point * conv.sums_plane()..];
            let weights = &conv.weights[(block * POINTS + point) * weights..][..weights];
            // Groups that differ by one tile at most, so that none is small.
            for group in 0..groups {
                let (first, end) = (group * tiles / groups, (group + 1) * tiles / groups);
                let points = &points[first * depth..end * depth];
                let sums = &mut sums[first * width..end * width];
                match end - first {
                    8 => product::<V, 8>(points, depth, weights, sums),
                    7 => product::<V, 7>(points, depth, weights, sums),
                    6 => product::<V, 6>(points, depth, weights, sums),
                    5 => product::<V, 5>(points, depth, weights, sums),
                    4 => product::<V, 4>(points, depth, weights, sums),
                    3 => product::<V, 3>(points, depth, weights, sums),
                    2 => product::<V, 2>(points, depth, weights, sums),
                    _ => product::<V, 1>(points, depth, weights, sums),
                }
            }
        }
    }
}

/// The micro-kernel: `R` rows of `points` times two vectors of outputs, all sums in registers.
#[inline(always)]
fn product<V: Vector, const R: usize>(points: &[f32], depth: usize, weights: &[f32], sums: &mut [f32]) {
    let width = 2 * V::LANES;
    let inputs = weights.len() / width;
    let mut rows: [&[f32]; R] = [&[]; R];
    for (number, row) in rows.iter_mut().enumerate() {
        *row = &points[number * depth..][..inputs];
    }
    let mut all = [[V::splat(0.0); 2]; R];
    // Counted by `inputs`, which is also each row's length: the compiler then knows that every row is long enough.
    for input in 0..inputs {
        let weights = &weights[input * width..][..width];
        let (left, right) = (V::load(&weights[..V::LANES]), V::load(&weights[V::LANES..]));
        for row in 0..R {
            let value = V::splat(rows[row][input]);
            all[row] = [value.mul_add(left, all[row][0]), value.mul_add(right, all[row][1])];
        }
    }
    for (sums, all) in sums.chunks_exact_mut(width).zip(all) {
        all[0].store(&mut sums[..V::LANES]);
        all[1].store(&mut sums[V::LANES..]);
    }
}

/// Sums at the points to outputs, finished.
struct Restore<'a> {
    conv: &'a Winograd,
    tiles: std::ops::Range<usize>,
    block: usize,
    sums: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Restore<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Restore { conv, tiles, block, sums, output } = self;
        let (finish, plane, width) = (&conv.finish, conv.sums_plane(), 2 * V::LANES);
        for half in 0..2 {
            let channel = block * width + half * V::LANES;
            if channel >= finish.output.channels {
                break;
            }
            let mut total = V::splat(0.0);
            for (number, tile) in tiles.clone().enumerate() {
                let sums = &sums[number * width + half * V::LANES..];
                let mut columns = [[V::splat(0.0); PATCH]; TILE];
                for j in 0..PATCH {
                    let mut m = [V::splat(0.0); PATCH];
                    for (i, m) in m.iter_mut().enumerate() {
                        *m = V::load(&sums[(i * PATCH + j) * plane..]);
                    }
                    let m = restore(m);
                    for i in 0..TILE {
                        columns[i][j] = m[i];
                    }
                }
                let (row, column) = (tile / conv.across * TILE, tile % conv.across * TILE);
                match finish.fold {
                    Fold::None => store_tile(finish, output, row, column, channel, whole_tile(columns)),
                    Fold::MaxPool => store_pooled(finish, output, row, column, channel, whole_tile(columns)),
                    Fold::Mean => {
                        total = total.add(sum_tile(finish, row, column, channel, whole_tile(columns)));
                    }
                }
            }
            if finish.fold == Fold::Mean {
                finish.add_up(output, channel, total);
            }
        }
    }
}

#[inline(always)]
fn store_tile<V: Vector>(
    finish: &Finish,
    output: &mut [f32],
    row: usize,
    column: usize,
    channel: usize,
    tile: [[V; TILE]; TILE],
) {
    for (i, values) in tile.into_iter().enumerate().take(finish.rows - row) {
        for (j, value) in values.into_iter().enumerate().take(finish.columns - column) {
            finish.store(output, row + i, column + j, channel, value);
        }
    }
}

/// Bias and activation grow with the value, so they may follow the maximum.
#[inline(always)]
fn store_pooled<V: Vector>(
    finish: &Finish,
    output: &mut [f32],
    row: usize,
    column: usize,
    channel: usize,
    tile: [[V; TILE]; TILE],
) {
    for i in 0..TILE / 2 {
        for j in 0..TILE / 2 {
            let (row, column) = (row / 2 + i, column / 2 + j);
            if row < finish.output.rows && column < finish.output.columns {
                let upper = tile[2 * i][2 * j].max(tile[2 * i][2 * j + 1]);
                let lower = tile[2 * i + 1][2 * j].max(tile[2 * i + 1][2 * j + 1]);
                finish.store(output, row, column, channel, upper.max(lower));
            }
        }
    }
}

#[inline(always)]
fn sum_tile<V: Vector>(finish: &Finish, row: usize, column: usize, channel: usize, tile: [[V; TILE]; TILE]) -> V {
    let bias = V::load(&finish.bias[channel..]);
    let mut total = V::splat(0.0);
    for values in tile.into_iter().take(finish.rows - row) {
        for value in values.into_iter().take(finish.columns - column) {
            total = total.add(finish.activation.apply(value.add(bias)));
        }
    }
    total
}
