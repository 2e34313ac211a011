//! Values as filters compare them: text.

pub(super) fn text(value: impl ToString) -> String {
    value.to_string()
}

pub(super) fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}
