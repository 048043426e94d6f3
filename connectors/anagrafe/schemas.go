package anagrafe

// The shapes of the operations (JSON Schema 2020-12). An answer promises the
// person's state and name; everything else where the register has it.

const taxCodeIn = `{
  "type": "object", "additionalProperties": false, "required": ["tax_code"],
  "properties": {"tax_code": {"description": "Codice fiscale.", "type": "string", "pattern": "^[A-Z0-9]{16}$", "x-personal": true}}
}`

const personFields = `
    "status": {"description": "How the person stands in the register of residents.", "type": "string", "enum": ["active", "emigrated", "deceased", "untraceable"]},
    "name": {"description": "Given name and surname.", "type": "string", "x-personal": true},
    "given_name": {"type": "string", "x-personal": true},
    "surname": {"type": "string", "x-personal": true},
    "tax_code": {"type": "string", "x-personal": true},
    "sex": {"type": "string", "enum": ["M", "F"], "x-personal": true},
    "born": {"type": "string", "format": "date", "x-personal": true},
    "birth_place": {"type": "string", "x-personal": true},
    "citizenship": {"type": "string", "x-personal": true},
    "civil_status": {"type": "string", "x-personal": true}`

const personOut = `{
  "type": "object", "additionalProperties": false, "required": ["status", "name"],
  "properties": {` + personFields + `}
}`

const residenceOut = `{
  "type": "object", "additionalProperties": false, "required": ["status", "name"],
  "properties": {` + personFields + `,
    "address": {"description": "As it is written on an envelope.", "type": "string", "x-personal": true},
    "postal_code": {"type": "string", "x-personal": true},
    "municipality": {"type": "string"},
    "since": {"description": "Resident there since.", "type": "string", "format": "date", "x-personal": true}
  }
}`

const familyOut = `{
  "type": "object", "additionalProperties": false, "required": ["status", "members"],
  "properties": {` + personFields + `,
    "address": {"type": "string", "x-personal": true},
    "members": {
      "description": "Of the family sheet, its head first.",
      "type": "array",
      "items": {
        "type": "object", "additionalProperties": false, "required": ["name"],
        "properties": {
          "name": {"type": "string", "x-personal": true},
          "tax_code": {"type": "string", "x-personal": true},
          "born": {"type": "string", "format": "date", "x-personal": true},
          "birth_place": {"type": "string", "x-personal": true},
          "relation": {"description": "To the head.", "type": "string", "x-personal": true}
        }
      }
    }
  }
}`

const prepareIn = `{
  "type": "object", "additionalProperties": false, "required": ["kind"],
  "properties": {
    "kind": {"type": "string", "enum": ["residence", "family", "civil-status"]},
    "resident": {"description": "What residence answered; of the kind residence.", "type": "object", "additionalProperties": true},
    "family": {"description": "What family answered; of the kind family.", "type": "object", "additionalProperties": true},
    "person": {"description": "What person answered; of the kind civil-status.", "type": "object", "additionalProperties": true},
    "exemption": {"description": "From stamp duty: art-16-tab-b and others of D.P.R. 642/1972.", "type": "string", "minLength": 1, "maxLength": 60}
  }
}`

const draftOut = `{
  "type": "object", "additionalProperties": false, "required": ["id", "sha256"],
  "properties": {
    "id": {"type": "string"},
    "sha256": {"description": "Of the draft, in hexadecimal digits: what a stamp is bound to.", "type": "string"},
    "until": {"description": "When an unused draft expires.", "type": "string", "format": "date-time"}
  }
}`

const issueIn = `{
  "type": "object", "additionalProperties": false, "required": ["draft"],
  "properties": {
    "draft": {"type": "string", "minLength": 1, "maxLength": 100},
    "stamp": {"description": "The signed marcaDaBollo, in base64, as pagopa.receipt brings it.", "type": "string", "minLength": 1, "maxLength": 20000}
  }
}`

const certificateOut = `{
  "type": "object", "additionalProperties": false, "required": ["protocol", "url", "verify_url"],
  "properties": {
    "protocol": {"type": "string"},
    "url": {"description": "Of the PDF, for its holder.", "type": "string"},
    "verify_url": {"description": "Of the public page.", "type": "string"},
    "code": {"type": "string"},
    "issued_at": {"type": "string", "format": "date-time"}
  }
}`
