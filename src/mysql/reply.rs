use std::ops::ControlFlow::{self, Break, Continue};

use bytes::Bytes;

use super::packet::{self, QueryReply, Row, RowReply};
use super::{Error, ServerError};

/// SHOW STATUS and SHOW VARIABLES give two columns, a SELECT of all eight variables and
/// their names sixteen; the cap bounds what a column count can make us read.
const MAX_COLUMNS: usize = 16;

/// A probe asks for a dozen variables; the cap bounds the rows kept in memory.
const MAX_ROWS: usize = 64;

/// What a server replied to one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, no rows.
    Ok,
    /// Refused; the statements behind it were answered all the same.
    Err(ServerError),
    /// A text result set.
    Rows(Vec<Row>),
}

/// Which packet of a reply comes next.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub(super) enum Part {
    First,
    Column { columns: usize, left: usize },
    ColumnsEof { columns: usize },
    Row { columns: usize, rows: Vec<Row> },
}

impl Part {
    /// The part after a packet, or the reply when it is complete.
    pub(super) fn next(self, payload: &Bytes) -> Result<ControlFlow<Reply, Self>, Error> {
        Ok(match self {
            Part::First => match QueryReply::parse(payload)? {
                QueryReply::Ok => Break(Reply::Ok),
                QueryReply::Err(error) => Break(Reply::Err(error)),
                QueryReply::Columns(columns) => {
                    let columns = usize::try_from(columns).unwrap_or(usize::MAX);
                    if columns > MAX_COLUMNS {
                        return Err(Error::TooLarge { what: "columns" });
                    }
                    Continue(Part::column(columns, columns))
                }
            },
            // What a column is called and holds is known from the statement.
            Part::Column { columns, left } => {
                Continue(Part::column(columns, left.saturating_sub(1)))
            }
            Part::ColumnsEof { columns } if packet::is_eof(payload) => {
                Continue(Part::Row { columns, rows: Vec::new() })
            }
            Part::ColumnsEof { .. } => {
                return Err(Error::Unexpected { what: "packet before the rows" });
            }
            Part::Row { columns, mut rows } => match RowReply::parse(payload, columns)? {
                RowReply::Eof => Break(Reply::Rows(rows)),
                RowReply::Err(error) => Break(Reply::Err(error)),
                RowReply::Row(row) => {
                    if rows.len() >= MAX_ROWS {
                        return Err(Error::TooLarge { what: "rows" });
                    }
                    rows.push(row);
                    Continue(Part::Row { columns, rows })
                }
            },
        })
    }

    fn column(columns: usize, left: usize) -> Self {
        match left {
            0 => Part::ColumnsEof { columns },
            left => Part::Column { columns, left },
        }
    }
}
