//! Columns as Go's `text/tabwriter` lays them out, which the recorded outputs of Docker's tools depend on: a cell ends
//! with a tab, a column is a block of consecutive lines that have it, trailing blanks stay.

/// Lays out tab-separated cells.
#[derive(Debug)]
pub struct TabWriter {
    minimum_width: usize,
    padding: usize,
    lines: Vec<Vec<String>>,
}

impl TabWriter {
    /// Columns as wide as their widest cell plus `padding` blanks, and not narrower than `minimum_width`.
    pub fn new(minimum_width: usize, padding: usize) -> Self {
        Self { minimum_width, padding, lines: Vec::new() }
    }

    /// Adds one line; its cells are separated by tabs.
    pub fn line(&mut self, text: impl AsRef<str>) {
        self.lines.push(text.as_ref().split('\t').map(str::to_owned).collect());
    }

    /// The text laid out, each line ended by a newline.
    pub fn finish(self) -> String {
        let mut widths: Vec<Vec<usize>> =
            self.lines.iter().map(|cells| vec![0; cells.len().saturating_sub(1)]).collect();
        let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
        for column in 0..columns {
            let mut line = 0;
            while line < self.lines.len() {
                if widths[line].len() <= column {
                    line += 1;
                    continue;
                }
                let end = (line..self.lines.len()).find(|at| widths[*at].len() <= column).unwrap_or(self.lines.len());
                let widest = (line..end).map(|at| self.lines[at][column].chars().count()).max().unwrap_or(0);
                let width = (widest + self.padding).max(self.minimum_width);
                for widths in &mut widths[line..end] {
                    widths[column] = width;
                }
                line = end;
            }
        }
        let mut out = String::new();
        for (cells, widths) in self.lines.iter().zip(&widths) {
            for (column, cell) in cells.iter().enumerate() {
                out.push_str(cell);
                if let Some(width) = widths.get(column) {
                    out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
                }
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::TabWriter;

    #[test]
    fn columns_are_blocks_of_consecutive_lines() {
        let mut table = TabWriter::new(0, 1);
        for line in ["Name:\tx", "MediaType:\ty", "", "A:\tz", "\t"] {
            table.line(line);
        }
        assert_eq!(table.finish(), "Name:      x\nMediaType: y\n\nA: z\n   \n");
    }

    #[test]
    fn a_minimum_width_counts_the_padding() {
        let mut table = TabWriter::new(10, 3);
        table.line("A\tB");
        table.line("a longer cell\tb");
        assert_eq!(table.finish(), "A               B\na longer cell   b\n");
    }
}
