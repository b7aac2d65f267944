//! How an image lies in memory: rows of columns of channels, inside of a border of zeros.

/// The border lets kernels read beyond the image's edges without asking whether they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Layout {
    pub rows: usize,
    pub columns: usize,
    pub channels: usize,
    pub border: Border,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Border {
    pub top: usize,
    pub bottom: usize,
    pub left: usize,
    pub right: usize,
}

impl Border {
    /// Wide enough for both.
    pub fn union(self, other: Border) -> Border {
        Border {
            top: self.top.max(other.top),
            bottom: self.bottom.max(other.bottom),
            left: self.left.max(other.left),
            right: self.right.max(other.right),
        }
    }
}

impl Layout {
    pub fn new(rows: usize, columns: usize, channels: usize) -> Layout {
        Layout { rows, columns, channels, border: Border::default() }
    }

    /// Values from one row to the next.
    #[inline]
    pub fn row_stride(&self) -> usize {
        (self.border.left + self.columns + self.border.right) * self.channels
    }

    /// Values in all, border included; `None` where no memory could hold them.
    pub fn checked_length(&self) -> Option<usize> {
        let rows = self.rows.checked_add(self.border.top)?.checked_add(self.border.bottom)?;
        let columns = self.columns.checked_add(self.border.left)?.checked_add(self.border.right)?;
        rows.checked_mul(columns)?.checked_mul(self.channels)
    }

    pub fn length(&self) -> usize {
        (self.border.top + self.rows + self.border.bottom) * self.row_stride()
    }

    /// Where a pixel's first channel lies.
    #[inline]
    pub fn pixel(&self, row: usize, column: usize) -> usize {
        (self.border.top + row) * self.row_stride() + (self.border.left + column) * self.channels
    }

    /// Where the pixel lies that is `border` before the image's first one, which must be within this one's border.
    pub fn corner(&self, border: Border) -> usize {
        (self.border.top - border.top) * self.row_stride() + (self.border.left - border.left) * self.channels
    }

    /// Zeros all around; the inside is left.
    pub fn clear_border(&self, values: &mut [f32]) {
        let stride = self.row_stride();
        let (left, right) = (self.border.left * self.channels, self.border.right * self.channels);
        values[..self.border.top * stride].fill(0.0);
        let end = (self.border.top + self.rows) * stride;
        values[end..self.length()].fill(0.0);
        if left + right > 0 {
            for row in values[self.border.top * stride..end].chunks_exact_mut(stride) {
                row[..left].fill(0.0);
                row[stride - right..].fill(0.0);
            }
        }
    }
}
