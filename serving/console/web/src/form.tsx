// The form of a request, as the served model takes it.
import { useId, useState } from "preact/hooks";
import { get } from "./api";
import { count } from "./format";
import { Combobox } from "./parts";

export interface FormField {
  name: string;
  dtype: "string" | "float32" | "int64";
  is_list: boolean;
  kind: "column" | "time" | "image" | "identifier";
  required: boolean;
  default: string;
  description: string;
  known_values: string[];
  left_out_values: number;
}

export interface Form {
  model: { name: string; version: number; route: string };
  fields: FormField[];
  examples: Record<string, unknown>[];
  audience_rows: number;
  span: number | null;
  reason: string;
}

/** What stands in the form: a text, or the texts of a list. By field; a Map, as fields have any name. */
export type Values = ReadonlyMap<string, string | string[]>;

export const loadForm = () => get<Form>("/console/api/form");

export function columnsOf(form: Form): FormField[] {
  return form.fields.filter((field) => field.kind === "column" || field.kind === "time");
}

export function imageFieldOf(form: Form): FormField | undefined {
  return form.fields.find((field) => field.kind === "image");
}

/** The values of a request, as JSON takes them; throws an `Error` that names the field. */
export function requestValues(form: Form, values: Values): Record<string, unknown> {
  const entries: [string, unknown][] = [];
  for (const field of columnsOf(form)) {
    const value = values.get(field.name);
    if (value === undefined || value === "" || (Array.isArray(value) && !value.length)) {
      if (field.required) throw new Error(`${field.name} is required`);
      continue;
    }
    entries.push([field.name, Array.isArray(value) ? value.map((part) => converted(field, part)) : converted(field, value)]);
  }
  return Object.fromEntries(entries);
}

function converted(field: FormField, text: string): string | number {
  if (field.dtype === "string") return text;
  const value = field.kind === "time" ? Date.parse(`${text}Z`) / 1000 : Number(text);
  if (!Number.isFinite(value)) throw new Error(`${field.name} takes a number, not “${text}”`);
  if (field.dtype === "int64" && !Number.isSafeInteger(value)) {
    throw new Error(`${field.name} takes a whole number of at most 15 digits here, not “${text}”`);
  }
  return value;
}

/** What a row of last month's impressions is in the form. */
export function valuesOf(form: Form, row: Record<string, unknown>): Values {
  const values = new Map<string, string | string[]>();
  for (const field of columnsOf(form)) {
    const value = Object.hasOwn(row, field.name) ? row[field.name] : null;
    // An impression of last month is asked about as if it were now.
    if (value == null || field.kind === "time") continue;
    values.set(field.name, Array.isArray(value) ? value.map(String) : String(value));
  }
  return values;
}

export function FormFields({ form, values, onChange }: { form: Form; values: Values; onChange: (values: Values) => void }) {
  const set = (name: string, value: string | string[]) => onChange(new Map(values).set(name, value));
  return (
    <div class="fields">
      {columnsOf(form).map((field) => (
        <FieldInput key={field.name} field={field} value={values.get(field.name)} onChange={(value) => set(field.name, value)} />
      ))}
    </div>
  );
}

function FieldInput(props: { field: FormField; value: string | string[] | undefined; onChange: (value: string | string[]) => void }) {
  const { field, onChange } = props;
  const id = useId();
  const text = typeof props.value === "string" ? props.value : "";
  const hint = [
    field.description,
    field.kind === "time" ? "In the data's own clock." : "",
    field.required ? "Required." : `If left out: ${field.default}.`,
    field.left_out_values ? `${count(field.left_out_values)} rarer values are not suggested.` : "",
  ].filter(Boolean);
  return (
    <div class="field">
      <label for={id}>
        <span>{field.name}</span> <span class="type">{field.is_list ? `list of ${field.dtype}` : field.dtype}</span>
      </label>
      {field.is_list ? (
        <ListInput id={id} field={field} value={Array.isArray(props.value) ? props.value : []} onChange={onChange} />
      ) : field.kind === "time" ? (
        <input id={id} type="datetime-local" step="1" value={text} aria-describedby={`${id}-hint`} onInput={(event) => onChange(event.currentTarget.value)} />
      ) : field.dtype === "string" ? (
        <Combobox id={id} value={text} values={field.known_values} required={field.required} describedBy={`${id}-hint`} onInput={onChange} />
      ) : (
        <input
          id={id}
          type="number"
          step={field.dtype === "int64" ? "1" : "any"}
          required={field.required}
          value={text}
          aria-describedby={`${id}-hint`}
          onInput={(event) => onChange(event.currentTarget.value)}
        />
      )}
      <p class="hint" id={`${id}-hint`}>
        {hint.join(" ")}
      </p>
    </div>
  );
}

function ListInput(props: { id: string; field: FormField; value: string[]; onChange: (value: string[]) => void }) {
  const [text, setText] = useState("");
  const add = () => {
    if (text === "") return;
    props.onChange([...props.value, text]);
    setText("");
  };
  return (
    <div>
      <div class="with-button">
        <Combobox id={props.id} value={text} values={props.field.known_values} describedBy={`${props.id}-hint`} onInput={setText} onEnter={add} />
        <button type="button" class="plain" onClick={add}>
          Add
        </button>
      </div>
      {props.value.length > 0 && (
        <ul class="chips">
          {props.value.map((value, index) => (
            <li key={index}>
              <button type="button" class="chip" aria-label={`Remove ${value}`} onClick={() => props.onChange(props.value.filter((_, other) => other !== index))}>
                {value} <span aria-hidden="true">×</span>
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
