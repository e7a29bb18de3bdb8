// Compare creatives: up to 20 images over last month's impressions, or in one context.
import { useState } from "preact/hooks";
import { post, Refusal } from "../api";
import { csv, download } from "../csv";
import { FormFields, RouteChoice, imageFieldOf, requestValues, routeQuery } from "../form";
import { count, month, points, rate, share } from "../format";
import { type GivenImage, ImageDrop } from "../images";
import { Failure, IntervalBar, Loading, type Rate, RateText, focusAfterRemoval } from "../parts";
import { useForm } from "../useForm";

const MOST_IMAGES = 20;
const EXPLAINED_AT_ONCE = 2;
/** From here on the columns of a sheet are narrow. */
const MANY_ON_PAPER = 6;

interface Compared {
  index: number;
  rank: number;
  click_rate: Rate;
  difference_to_best: Rate | null;
  best_share: number | null;
  creative_status?: string;
}

interface Breakdown {
  column: string;
  parts: { value: string; rows: number; click_rates: Rate[] }[];
}

interface Comparison {
  model: { version: number; route: string };
  audience: { span: number | null; rows: number; replaced_values: number; left_out_rows: number } | null;
  /** How the intervals were made; null where there are none. */
  intervals: { confidence: number; resamples: number } | null;
  as_shown: Rate | null;
  ads: Compared[];
  breakdowns: Breakdown[];
}

interface Scores {
  model: { version: number; route: string };
  ads: { index: number; rank: number; click_probability: number; creative_status?: string }[];
}

/** The map as a PNG, or why there is none. */
type HeatMap = { b64: string } | { reason: string };

interface Shown {
  comparison: Comparison;
  images: GivenImage[];
}

const alone = (value: number): Rate => ({ value, lower: null, upper: null });

export function Compare() {
  const { form, error, notice, values, setValues, route, setRoute, look } = useForm();
  const [images, setImages] = useState<GivenImage[]>([]);
  const [left, setLeft] = useState("");
  const [over, setOver] = useState<"audience" | "context" | null>(null);
  const [shown, setShown] = useState<Shown | null>(null);
  const [heatMaps, setHeatMaps] = useState<ReadonlyMap<number, HeatMap>>(new Map());
  const [failure, setFailure] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  if (!form) return error ? <Failure error={error} /> : <Loading what="Asking what the model takes" />;
  const imageField = imageFieldOf(form);
  if (!imageField) {
    return (
      <>
        <div class="heading"><h1>Compare creatives</h1></div>
        {notice && <p class="notice" role="status">{notice}</p>}
        <p><RouteChoice form={form} route={route} byUser={false} onChange={setRoute} /></p>
        <p>Version {form.model.version} takes no images: there is nothing to compare.</p>
      </>
    );
  }
  const mode = form.audience_rows > 0 ? (over ?? "audience") : "context";

  const add = (given: GivenImage[]) => {
    const room = Math.max(0, MOST_IMAGES - images.length);
    for (const image of given.slice(room)) URL.revokeObjectURL(image.url);
    setImages([...images, ...given.slice(0, room)]);
    setLeft(given.length > room ? `At most ${count(MOST_IMAGES)} are compared at a time: ${count(given.length - room)} left out.` : "");
  };
  const remove = (image: GivenImage, button: HTMLElement) => {
    focusAfterRemoval(button, () => button.closest("form")?.querySelector<HTMLElement>("input[type=file]"));
    setImages(images.filter((one) => one !== image));
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    // The button stays in reach of the keyboard meanwhile: what is disabled loses the focus.
    if (busy) return;
    if (images.length === 0) {
      setLeft("Choose an image first.");
      return;
    }
    setBusy(true);
    setFailure(null);
    setHeatMaps(new Map());
    try {
      const context = requestValues(form, values);
      const ads = images.map((image) => Object.fromEntries([[imageField.name, { b64: image.b64 }]]));
      const body = { ads, context, creative_status: true };
      // By name, so that scores and heat maps are of one version whoever the user is.
      const query = routeQuery(route || form.model.route);
      const comparison =
        mode === "audience"
          ? await post<Comparison>(`/console/api/compare${query}`, body)
          : inOneContext(await post<Scores>(`/v1/score${query}`, body));
      setShown({ comparison, images });
      if (comparison.model.version !== form.model.version) void look();
      setBusy(false);
      await explainAll(ads, context, images, query, comparison.model.version, (id, of) => setHeatMaps((before) => new Map(before).set(id, of)));
    } catch (refusal) {
      setFailure(ofFile(refusal, images));
      setBusy(false);
      // Another version may take other fields.
      void look();
    }
  };

  return (
    <>
      <div class="heading">
        <h1>Compare creatives</h1>
        <p class="quiet">
          Which image will be clicked most? Up to {count(MOST_IMAGES)} images, judged by version {form.model.version} before anyone has seen them.
        </p>
      </div>
      {notice && <p class="notice" role="status">{notice}</p>}
      <form onSubmit={submit} class="card stack no-print">
        <RouteChoice form={form} route={route} byUser={false} onChange={setRoute} />
        <ImageDrop many onImages={add} />
        <p class="warning" role="status">{left}</p>
        {images.length > 0 && (
          <ul class="thumbs">
            {images.map((image) => (
              <li key={image.id}>
                <img src={image.url} alt="" />
                <bdi class="file" title={image.name}>{image.name}</bdi>
                <button type="button" class="plain" aria-label={`Remove ${image.name}`} onClick={(event) => remove(image, event.currentTarget)}>Remove</button>
              </li>
            ))}
          </ul>
        )}
        <fieldset class="options">
          <legend>Over</legend>
          <label>
            <input type="radio" name="over" checked={mode === "audience"} disabled={form.audience_rows === 0} onChange={() => setOver("audience")} />
            {form.audience_rows > 0
              ? `a sample of ${count(form.audience_rows)} impressions of ${month(form.span)}`
              : `last month's impressions: ${form.reason || "there are none"}`}
          </label>
          <label>
            <input type="radio" name="over" checked={mode === "context"} onChange={() => setOver("context")} />
            one impression alone
          </label>
        </fieldset>
        <details open={mode === "context"}>
          <summary>{mode === "audience" ? "Hold columns of all impressions to a value" : "The impression"}</summary>
          <FormFields form={form} values={values} onChange={setValues} />
        </details>
        {failure !== null && <Failure error={failure} />}
        <button type="submit" aria-disabled={busy || images.length === 0}>
          {busy ? "Comparing …" : images.length ? `Compare ${images.length === 1 ? "1 image" : `${count(images.length)} images`}` : "Compare"}
        </button>
      </form>
      <p class="hidden" role="status">{shown && saidOf(shown)}</p>
      <section>{shown && <Results of={shown} heatMaps={heatMaps} />}</section>
    </>
  );
}

/** What is wrong with an image is told of its file, by which a person knows it. */
function ofFile(failure: unknown, images: GivenImage[]): unknown {
  if (!(failure instanceof Refusal)) return failure;
  const image = images[Number(/^ads\[(\d+)\]/.exec(failure.field)?.[1] ?? NaN)];
  return image ? new Refusal(failure.status, failure.code, `${image.name}: ${failure.message}`, failure.field) : failure;
}

/** Whether nothing tells the images apart. */
function areLevel({ ads }: Comparison): boolean {
  return ads.length > 1 && ads.every((ad) => ad.rank === 1);
}

function levelText({ model }: Comparison): string {
  return `All images are level: they are alike, or version ${model.version} has learnt no effect of images.`;
}

/** What is said of a comparison to who does not see it. */
function saidOf({ comparison, images }: Shown): string {
  const best = comparison.ads[0]!;
  if (areLevel(comparison)) return `Compared. ${levelText(comparison)}`;
  return `Compared. First of ${count(comparison.ads.length)} is ${images[best.index]!.name}: ${rate(best.click_rate.value)}`;
}

/** What the intervals are. */
function methodOf({ intervals }: Comparison): string {
  if (!intervals) return "One impression has one probability: an interval would be made up.";
  return (
    `${share(intervals.confidence)} percentile bootstrap over the audience's rows, ${count(intervals.resamples)} resamples, the same rows for all ads. ` +
    "It holds what the sample of impressions leaves open, not what the model does not know."
  );
}

function inOneContext(scores: Scores): Comparison {
  return {
    model: scores.model,
    audience: null,
    intervals: null,
    as_shown: null,
    ads: scores.ads.map((ad) => ({
      index: ad.index,
      rank: ad.rank,
      click_rate: alone(ad.click_probability),
      difference_to_best: null,
      best_share: null,
      creative_status: ad.creative_status,
    })),
    breakdowns: [],
  };
}

interface Explained {
  model: { version: number };
  image?: { heat_map?: { b64: string } };
}

/** Heat maps, a few at a time: they cost far more than scores. */
async function explainAll(
  ads: object[],
  context: object,
  images: GivenImage[],
  query: string,
  version: number,
  onHeatMap: (id: number, heatMap: HeatMap) => void,
) {
  const left = ads.map((ad, index) => ({ ad, id: images[index]!.id }));
  const work = async () => {
    for (let next = left.shift(); next; next = left.shift()) {
      const { id } = next;
      try {
        const { model, image } = await post<Explained>(`/v1/explain${query}`, { ads: [next.ad], context });
        if (model.version !== version) onHeatMap(id, { reason: `version ${version} no longer answers` });
        else onHeatMap(id, image?.heat_map ?? { reason: "the image is not known" });
      } catch (refusal) {
        onHeatMap(id, { reason: refusal instanceof Error ? refusal.message : String(refusal) });
      }
    }
  };
  await Promise.all(Array.from({ length: EXPLAINED_AT_ONCE }, work));
}

function Results({ of, heatMaps }: { of: Shown; heatMaps: ReadonlyMap<number, HeatMap> }) {
  const { comparison, images } = of;
  const [column, setColumn] = useState("");
  const most = Math.max(...comparison.ads.map((ad) => ad.click_rate.upper ?? ad.click_rate.value ?? 0), comparison.as_shown?.value ?? 0) * 1.05;
  const breakdown = comparison.breakdowns.find((one) => one.column === column) ?? comparison.breakdowns[0];
  const nameOf = (index: number) => images[index]!.name;
  const { audience } = comparison;
  const save = () => download("creatives.csv", csv(table(comparison, nameOf)));
  return (
    <div class="card stack results">
      <div class="row">
        <h2>Ranked</h2>
        <div class="choices no-print">
          <button type="button" class="plain" onClick={save}>Save as CSV</button>
          <button type="button" class="plain" onClick={() => print()}>Print</button>
        </div>
      </div>
      <p class="quiet small">
        Expected click rate{audience ? ` over ${count(audience.rows)} impressions of ${month(audience.span)}` : " of one impression"}, by version {comparison.model.version}
        {comparison.model.route !== "default" && <>, route <bdi title={comparison.model.route}>{comparison.model.route}</bdi></>}. {methodOf(comparison)}
        {audience && audience.left_out_rows > 0 && ` ${count(audience.left_out_rows)} impressions were too large to be kept.`}
        {audience && audience.replaced_values > 0 && ` ${count(audience.replaced_values)} values that were no text were replaced.`}
      </p>
      {comparison.as_shown && (
        <p class="small"><span class="mark-key" aria-hidden="true" /> With the creatives that were shown then: <RateText of={comparison.as_shown} /></p>
      )}
      {areLevel(comparison) && <p class="warning">{levelText(comparison)}</p>}
      <ol class="ranking">
        {comparison.ads.map((ad) => {
          const image = images[ad.index]!;
          const heatMap = heatMaps.get(image.id);
          return (
            <li key={ad.index}>
              <span class="rank"><span class="hidden">Rank </span>{ad.rank}</span>
              <div class="pair">
                <img src={image.url} alt="" />
                {heatMap && "b64" in heatMap ? (
                  <img src={`data:image/png;base64,${heatMap.b64}`} alt={`Heat map of ${image.name}: red adds, blue takes`} />
                ) : (
                  <span class="waiting small quiet" title={heatMap?.reason}>{heatMap ? `No heat map: ${heatMap.reason}` : "heat map …"}</span>
                )}
              </div>
              <div class="measure">
                <p><bdi class="file" title={image.name}>{image.name}</bdi></p>
                <p><RateText of={ad.click_rate} /></p>
                <IntervalBar of={ad.click_rate} most={most} mark={comparison.as_shown?.value} />
                {ad.rank > 1 && ad.difference_to_best && <Difference of={ad.difference_to_best} />}
                {ad.best_share !== null && <p class="quiet small">The best in {share(ad.best_share)} of the resamples</p>}
                {ad.creative_status && ad.creative_status !== "ok" && <p class="warning small">Scored as an unknown image: {ad.creative_status.replaceAll("_", " ")}</p>}
              </div>
            </li>
          );
        })}
      </ol>
      {breakdown && (
        <>
          <div class="row">
            <h2>By part of the audience</h2>
            <label class="inline no-print">
              Column{" "}
              <select value={breakdown.column} onChange={(event) => setColumn(event.currentTarget.value)}>
                {comparison.breakdowns.map((one) => <option key={one.column} value={one.column}>{one.column}</option>)}
              </select>
            </label>
          </div>
          <div class="scroll" tabIndex={0} role="region" aria-label={`Click rates by ${breakdown.column}`}>
            <table class={comparison.ads.length > MANY_ON_PAPER ? "many" : undefined}>
              <thead>
                <tr>
                  <th scope="col"><bdi title={breakdown.column}>{breakdown.column}</bdi></th>
                  <th scope="col" class="number">Rows</th>
                  {comparison.ads.map((ad) => <th scope="col" class="number" key={ad.index}><bdi class="file" title={nameOf(ad.index)}>{nameOf(ad.index)}</bdi></th>)}
                </tr>
              </thead>
              <tbody>
                {breakdown.parts.map((part) => {
                  const best = Math.max(...part.click_rates.map((one) => one.value ?? 0));
                  return (
                    <tr key={part.value}>
                      <th scope="row"><bdi title={part.value}>{part.value || "missing"}</bdi></th>
                      <td class="number">{count(part.rows)}</td>
                      {comparison.ads.map((ad) => {
                        const of = part.click_rates[ad.index]!;
                        return <td class={of.value === best ? "number best" : "number"} key={ad.index} title={`${rate(of.lower)} to ${rate(of.upper)}`}>{rate(of.value)}</td>;
                      })}
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </div>
        </>
      )}
    </div>
  );
}

/** What an image lacks to the first; the same impressions were drawn for both. */
function Difference({ of: { value, lower, upper } }: { of: Rate }) {
  if (value === null) return null;
  return (
    <p class="quiet small">
      {points(value)} percentage points against the first
      {lower !== null && upper !== null && (
        <>
          , {points(lower)} to {points(upper)}
          {lower <= 0 && upper >= 0 && ": the sample does not tell them apart"}
        </>
      )}
    </p>
  );
}

function table(comparison: Comparison, nameOf: (index: number) => string): (string | number | null)[][] {
  const rows: (string | number | null)[][] = [
    ["column", "value", "impressions", "rank", "image", "click_rate", "lower", "upper", "best_share", "image_status", "version", "route", "month"],
  ];
  const tail = [comparison.model.version, comparison.model.route, comparison.audience?.span ?? null];
  for (const ad of comparison.ads) {
    const { value, lower, upper } = ad.click_rate;
    rows.push(["", "", comparison.audience?.rows ?? 1, ad.rank, nameOf(ad.index), value, lower, upper, ad.best_share, ad.creative_status ?? "", ...tail]);
  }
  for (const breakdown of comparison.breakdowns) {
    for (const part of breakdown.parts) {
      part.click_rates.forEach((of, index) =>
        rows.push([breakdown.column, part.value, part.rows, null, nameOf(index), of.value, of.lower, of.upper, null, "", ...tail]),
      );
    }
  }
  return rows;
}
