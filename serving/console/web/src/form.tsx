// The form of a request, as the served model takes it.
import { useId, useState } from "preact/hooks";
import { get } from "./api";
import { count, share } from "./format";
import { Combobox, focusAfterRemoval } from "./parts";

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

export interface FormRoute {
  name: string;
  label: string | null;
  version: number | null;
  percent: number;
  is_shadow: boolean;
}

export interface Form {
  model: { name: string; version: number; route: string };
  fields: FormField[];
  examples: Record<string, unknown>[];
  audience_rows: number;
  span: number | null;
  reason: string;
  routes: FormRoute[];
}

/** What stands in the form: a text, or the texts of a list. By field; a Map, as fields have any name. */
export type Values = ReadonlyMap<string, string | string[]>;

export const loadForm = (route: string) => get<Form>(`/console/api/form${routeQuery(route)}`);

/** How an address names a route; empty where the user decides. */
export function routeQuery(route: string): string {
  // A quote stays as it is otherwise, and would end that of a shell's word.
  return route && `?route=${encodeURIComponent(route).replaceAll("'", "%27")}`;
}

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

/** Those of the values that another form takes in the same way, and the names of the fields of the others. */
export function fitting(before: Form, after: Form, values: Values): { kept: Values; dropped: string[] } {
  const shape = (form: Form, name: string) => {
    const field = columnsOf(form).find((each) => each.name === name);
    return field && `${field.kind} ${field.dtype} ${field.is_list}`;
  };
  const kept = new Map<string, string | string[]>();
  const dropped: string[] = [];
  for (const [name, value] of values) {
    if (shape(before, name) === shape(after, name)) kept.set(name, value);
    else if (value.length) dropped.push(name);
  }
  return { kept, dropped };
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

/** Which route is asked, where there are several. */
export function RouteChoice(props: { form: Form; route: string; byUser: boolean; onChange: (route: string) => void }) {
  const { form, route, byUser, onChange } = props;
  if (form.routes.length < 2) return null;
  return (
    <label class="inline route">
      <span>Route</span>
      <select value={route || (byUser ? "" : form.model.route)} onChange={(event) => onChange(event.currentTarget.value)}>
        {byUser && <option value="">as the user decides</option>}
        {form.routes.map((each) => (
          <option key={each.name} value={each.name} disabled={each.version === null}>
            {[
              each.name,
              each.version === null ? "no version now" : `version ${each.version}`,
              each.label !== null && `label ${each.label}`,
              each.is_shadow ? `shadow of ${share(each.percent / 100)} of requests` : `${share(each.percent / 100)} of users`,
            ]
              .filter(Boolean)
              .join(", ")}
          </option>
        ))}
      </select>
    </label>
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
        <bdi>{field.name}</bdi> <span class="type">{field.is_list ? `list of ${field.dtype}` : field.dtype}</span>
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
  const remove = (index: number, button: HTMLElement) => {
    // The button of another one is that of the next value then.
    if (index === props.value.length - 1) focusAfterRemoval(button, () => document.getElementById(props.id));
    props.onChange(props.value.filter((_, other) => other !== index));
  };
  return (
    <div>
      <div class="with-button">
        <Combobox id={props.id} value={text} values={props.field.known_values} describedBy={`${props.id}-hint`} onInput={setText} onEnter={add} />
        <button type="button" class="plain" aria-label={`Add to ${props.field.name}`} onClick={add}>
          Add
        </button>
      </div>
      {props.value.length > 0 && (
        <ul class="chips">
          {props.value.map((value, index) => (
            <li key={index}>
              <button type="button" class="chip" aria-label={`Remove ${value}`} onClick={(event) => remove(index, event.currentTarget)}>
                <bdi>{value}</bdi> <span aria-hidden="true">×</span>
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
