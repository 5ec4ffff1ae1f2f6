//! `when`, which every type has.

use super::Section;
use crate::handler::when::When;

pub(super) fn when(s: &mut Section<'_>) -> Option<When> {
    let source: String = s.optional("when")?;
    match When::compile(&source) {
        Ok(when) => Some(when),
        Err(faults) => {
            for fault in faults {
                s.fault("when", fault.to_string());
            }
            None
        }
    }
}
