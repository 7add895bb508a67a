//! The value of `RUN --device`.

use super::Device;
use super::error::InstructionErrorKind as Kind;
use crate::flags::csv;
use crate::suggest;
use crate::values::parse_bool;

pub(super) fn parse(flag: &str) -> Result<Device, Kind> {
    let mut device = Device::default();
    for field in csv::split(flag).map_err(Kind::DeviceCsv)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => {
                device.required =
                    parse_bool(value).ok_or_else(|| Kind::DeviceValue { key: key.clone(), value: value.to_owned() })?;
            }
            ("name", Some(_)) if !device.name.is_empty() => return Err(Kind::DeviceTwoNames(device.name)),
            ("name", Some(value)) => device.name = value.to_owned(),
            // A device's own name may hold an equals sign.
            _ if device.name.is_empty() => device.name = field,
            (_, None) => return Err(Kind::DeviceField(field)),
            (_, Some(_)) => {
                let nearest = suggest::nearest(&key, ["name", "required"]);
                return Err(Kind::DeviceKey { key, field, nearest });
            }
        }
    }
    Ok(device)
}
