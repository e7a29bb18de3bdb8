// The form of the version that a route stands for now, asked for anew when another version has taken its place.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Refusal } from "./api";
import { type Form, type Values, fitting, loadForm } from "./form";

const LOOK_MILLISECONDS = 20_000;

export interface FormState {
  form: Form | null;
  error: unknown;
  /** What to tell of a form that has changed; empty where none has. */
  notice: string;
  /** What stands in the form, and fits it. */
  values: Values;
  setValues: (values: Values) => void;
  /** The route that is asked; empty for the one that the user decides. */
  route: string;
  setRoute: (route: string) => void;
  /** Looks whether the form is still that of what is served. */
  look: () => Promise<void>;
}

export function useForm(): FormState {
  const [route, setRoute] = useState("");
  const [form, setForm] = useState<Form | null>(null);
  const [values, setValues] = useState<Values>(new Map());
  const [error, setError] = useState<unknown>(null);
  const [notice, setNotice] = useState("");
  const latest = useRef({ route, values, shown: null as { route: string; form: Form } | null });
  latest.current.route = route;
  latest.current.values = values;
  const look = useCallback(async () => {
    const now = latest.current;
    try {
      const loaded = await loadForm(route);
      if (now.route !== route) return;
      const before = now.shown;
      now.shown = { route, form: loaded };
      setError(null);
      setForm(loaded);
      if (!before || (before.route === route && before.form.model.version === loaded.model.version)) return;
      const { kept, dropped } = fitting(before.form, loaded, now.values);
      setValues(kept);
      const told = [];
      if (before.route === route) {
        told.push(`Version ${loaded.model.version} is served now, in place of ${before.form.model.version}. The form is that of the new one.`);
      }
      if (dropped.length) told.push(`Emptied, as version ${loaded.model.version} takes them in another way or not at all: ${dropped.join(", ")}.`);
      setNotice(told.join(" "));
    } catch (refusal) {
      if (now.route !== route) return;
      if (route && refusal instanceof Refusal && refusal.field === "route") {
        setNotice(`The route ${route} is no longer there.`);
        setRoute("");
      } else setError(refusal);
    }
  }, [route]);
  useEffect(() => {
    void look();
    const timer = setInterval(() => document.visibilityState === "visible" && void look(), LOOK_MILLISECONDS);
    return () => clearInterval(timer);
  }, [look]);
  return { form, error: form ? null : error, notice, values, setValues, route, setRoute, look };
}
