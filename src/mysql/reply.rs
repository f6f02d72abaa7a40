//! The reply to one statement, assembled packet by packet.

use std::ops::ControlFlow::{self, Break, Continue};

use bytes::Bytes;

use super::error::{Error, ServerError};
use super::packet::{self, QueryReply, Row, RowReply};

/// The server's reply to one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The statement succeeded without a result set.
    Ok,
    /// The statement failed. The session can send the next one.
    Err(ServerError),
    /// A text result set.
    Rows(Vec<Row>),
}

/// The most columns of a result set. SHOW STATUS and SHOW VARIABLES return two, a SELECT
/// of all nine variables and their names eighteen. The cap bounds how many column
/// definitions a server can make a session read.
const MAX_COLUMNS: usize = 32;

/// The most rows of a result set. A probe queries a dozen variables. The cap bounds the rows
/// that are kept in memory.
const MAX_ROWS: usize = 64;

/// The packet of a reply that comes next.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub(super) enum Part {
    First,
    Column { columns: usize, left: usize },
    ColumnsEof { columns: usize },
    Row { columns: usize, rows: Vec<Row> },
}

impl Part {
    /// Takes one packet. Returns the part that comes next, or the reply if it is complete.
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
            Part::Column { .. } | Part::ColumnsEof { .. } if packet::is_err(payload) => {
                Break(Reply::Err(packet::parse_err(payload)?))
            }
            // The definition is not read: the statement determines the names and types.
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
