//! Go's struct types described as data: how a JSON document looks to a template, and how Go would write it back.

use std::rc::Rc;

use serde_json::{Map, Value as Json};

use super::value::{Struct, Value};

/// A struct type.
#[derive(Debug)]
pub struct Schema {
    /// Go's name for it, such as `v1.Descriptor`.
    pub type_name: &'static str,
    /// Its fields in declaration order.
    pub fields: &'static [Field],
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// Go's name.
    pub name: &'static str,
    /// The JSON name.
    pub json: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether the JSON form leaves it out when it is empty.
    pub omit_empty: bool,
}

/// The types that fields have.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `string` or a string type.
    Text,
    /// An integer.
    Int,
    /// `bool`.
    Bool,
    /// A slice of strings.
    Texts,
    /// A map from string to string.
    TextMap,
    /// A slice of structs.
    Structs(&'static Schema),
    /// A struct by value.
    Struct(&'static Schema),
    /// A struct by pointer, which may be nil.
    Pointer(&'static Schema),
    /// A struct whose fields are written among those of its owner.
    Embedded(&'static Schema),
    /// `*time.Time`, or anything else that is a pointer to what prints as a string.
    TextPointer,
    /// Anything: `map[string]struct{}`, `any`.
    Any,
}

impl Schema {
    /// How a template sees `json` as this struct.
    pub fn value(&'static self, json: &Json) -> Value {
        let empty = Map::new();
        let members = json.as_object().unwrap_or(&empty);
        Value::Struct(Rc::new(Struct {
            type_name: self.type_name,
            static_type: self.type_name,
            fields: self.fields(members, true),
            json: Json::Object(self.written(members)),
        }))
    }

    /// The same behind an interface: an unknown field is reported against `interface {}`.
    pub fn value_behind_interface(&'static self, json: &Json) -> Value {
        match self.value(json) {
            Value::Struct(structure) => {
                Value::Struct(Rc::new(Struct { static_type: "interface {}", ..(*structure).clone() }))
            }
            other => other,
        }
    }

    fn fields(&'static self, members: &Map<String, Json>, printed: bool) -> Vec<(&'static str, Value, bool)> {
        let mut fields = Vec::new();
        for field in self.fields {
            if let Kind::Embedded(schema) = field.kind {
                fields.push((field.name, schema.value(&Json::Object(members.clone())), printed));
                fields.extend(schema.fields(members, false));
            } else {
                fields.push((field.name, field.kind.value(members.get(field.json)), printed));
            }
        }
        fields
    }

    fn written(&self, members: &Map<String, Json>) -> Map<String, Json> {
        let mut out = Map::new();
        for field in self.fields {
            match field.kind {
                Kind::Embedded(schema) => out.extend(schema.written(members)),
                kind => {
                    let json = kind.written(members.get(field.json));
                    if !(field.omit_empty && kind.is_empty(&json)) {
                        out.insert(field.json.to_owned(), json);
                    }
                }
            }
        }
        out
    }
}

impl Kind {
    fn value(self, json: Option<&Json>) -> Value {
        let json = json.filter(|json| !json.is_null());
        match self {
            Self::Text => Value::Text(json.and_then(Json::as_str).unwrap_or_default().to_owned()),
            Self::Int => Value::Int(json.and_then(Json::as_i64).unwrap_or_default()),
            Self::Bool => Value::Bool(json.and_then(Json::as_bool).unwrap_or_default()),
            Self::Texts => Value::list(json.and_then(Json::as_array).into_iter().flatten().map(Value::from_json)),
            Self::TextMap => json.map_or_else(|| Value::map([]), Value::from_json),
            Self::Structs(schema) => {
                Value::list(json.and_then(Json::as_array).into_iter().flatten().map(|item| schema.value(item)))
            }
            Self::Struct(schema) | Self::Embedded(schema) => schema.value(json.unwrap_or(&Json::Null)),
            Self::Pointer(schema) => json.map_or(Value::Nil(schema.type_name), |json| schema.value(json)),
            Self::TextPointer => json.map_or(Value::Nil("time.Time"), Value::from_json),
            Self::Any => json.map_or(Value::Nil("interface {}"), Value::from_json),
        }
    }

    fn written(self, json: Option<&Json>) -> Json {
        let json = json.filter(|json| !json.is_null());
        match (self, json) {
            (Self::Text, None) => Json::String(String::new()),
            (Self::Int, None) => Json::from(0),
            (Self::Bool, None) => Json::Bool(false),
            (Self::Struct(schema), json) => {
                Json::Object(schema.written(json.and_then(Json::as_object).unwrap_or(&Map::new())))
            }
            (Self::Pointer(schema), Some(Json::Object(members))) => Json::Object(schema.written(members)),
            (Self::Structs(schema), Some(Json::Array(items))) => Json::Array(
                items
                    .iter()
                    .map(|item| Json::Object(schema.written(item.as_object().unwrap_or(&Map::new()))))
                    .collect(),
            ),
            (Self::TextMap | Self::Any, Some(Json::Object(members))) => {
                // Go writes the keys of a map sorted
                let mut members: Vec<_> = members.clone().into_iter().collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                Json::Object(members.into_iter().collect())
            }
            (_, Some(json)) => json.clone(),
            (_, None) => Json::Null,
        }
    }

    /// What `omitempty` leaves out. A struct is never empty.
    fn is_empty(self, json: &Json) -> bool {
        match json {
            Json::Null => true,
            Json::Bool(value) => !value,
            Json::Number(number) => number.as_f64() == Some(0.0),
            Json::String(text) => text.is_empty(),
            Json::Array(items) => items.is_empty(),
            Json::Object(members) => matches!(self, Self::TextMap | Self::Any) && members.is_empty(),
        }
    }
}
