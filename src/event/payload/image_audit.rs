//! Image audit, once porn detection (page 38084; before August 2020 page 31564).

use super::natural_key;
use crate::event::Kind;
use crate::event::lenient::documented;

documented! {
    /// A picture of a stream looks suspicious (event 317). Pictures without findings are not reported.
    ///
    /// Judge by `suggestion` and `label`: the numbers in `types` changed their meaning three times.
    pub struct ImageAudit {
        /// Stream name.
        optional stream_id = "streamId": Text,
        /// An older name of the stream.
        optional channel_id = "channelId": Text,
        /// Where the picture can be fetched.
        required img: Text,
        /// Classes of the worst finding. 2019: 1 porn, 2 sexy, 3 political, 4 illegal, 5 terror. 2021: 1 porn,
        /// 6 abuse, 8 advertisement, others unsafe otherwise.
        required types = "type": [Int],
        /// Confidence of each of `types`, 0 to 100. CSS prints `socre`, with a list or a single number.
        optional scores = "score" misspelt "socre": (one_or_more Float),
        /// Text in the picture.
        optional ocr_msg = "ocrMsg": Text,
        /// `Block`, `Review` or `Pass`. Since 2021.
        optional suggestion: Text,
        /// The worst label over all results, for example `Porn`. Since 2021.
        optional label: Text,
        /// Its second level, for example `PornHigh`; may be empty. Since 2021.
        optional sub_label = "subLabel": Text,
        /// What classification found.
        optional label_results = "labelResults": [LabelResult],
        /// What object recognition found.
        optional object_results = "objectResults": [ObjectResult],
        /// What text recognition found.
        optional ocr_results = "ocrResults": [OcrResult],
        /// Which known pictures it resembles.
        optional lib_results = "libResults": [LibResult],
        /// When the picture was taken, in seconds since 1970.
        required screenshot_time = "screenshotTime": Int,
        /// When this message was sent, in seconds since 1970. A retry changes it.
        required send_time = "sendTime": Int,
        /// Query string of the push URL, not decoded. Since 2019.
        optional stream_param: Text,
        /// Push domain. Since 2019.
        optional app: Text,
        /// Path of the push URL. Since 2019.
        optional appname: Text,
        /// Account number. Since 2019.
        optional appid: Int,
        /// Sent on for old users: number of the detection template.
        optional tid: Int,
        /// In bodies, not on the page.
        optional level: Int,
        /// Sent on for old users: confidence of the detection, 0 to 100. Above 83 counted as suspicious.
        optional confidence: Float,
        /// Sent on for old users: 0 to 100, as the scores that follow.
        optional normal_score = "normalScore": Float,
        /// Sexy.
        optional hot_score = "hotScore": Float,
        /// Pornographic.
        optional porn_score = "pornScore": Float,
        /// Terrorism.
        optional terror_score = "terrorScore": Float,
        /// Politically sensitive.
        optional polity_score = "polityScore": Float,
        /// Illegal.
        optional illegal_score = "illegalScore": Float,
        /// Like a known picture.
        optional similar_score = "similarScore": Float,
        /// Abusive.
        optional abuse_score = "abuseScore": Float,
        /// Minors.
        optional teenager_score = "teenagerScore": Float,
        /// Advertisement.
        optional ad_score = "adScore": Float,
        /// Chosen by the customer.
        optional custom_score = "customScore": Float,
        /// Sent on for old users.
        optional abduction_risk = "abductionRisk": [AbductionRisk],
        /// Faces, in bodies until today.
        optional face_details = "faceDetails": [FaceDetail],
        /// Games, in 2018.
        optional game_details = "gameDetails": GameDetails,
    }

    /// What classification found in one scene.
    pub struct LabelResult {
        /// 1 where it found something.
        optional hit_flag = "HitFlag": Int,
        /// For example `Illegal`, `Porn`, `Sexy`, `Terror`.
        optional scene = "Scene": Text,
        /// `Block`, `Review` or `Pass`.
        optional suggestion = "Suggestion": Text,
        /// The worst label.
        optional label = "Label" or "label": Text,
        /// Its second level.
        optional sub_label = "SubLabel": Text,
        /// 0 to 100.
        optional score = "Score": Int,
        /// The findings one by one.
        optional details = "Details": [LabelDetail],
    }

    /// One finding of a classification.
    pub struct LabelDetail {
        /// Number of the finding.
        optional id = "Id": Int,
        /// Label of the finding.
        optional name = "Name": Text,
        /// 0 to 100.
        optional score = "Score": Int,
    }

    /// What object recognition found in one scene.
    pub struct ObjectResult {
        /// 1 where it found something.
        optional hit_flag = "HitFlag": Int,
        /// For example `QrCode`, `MapRecognition`, `PolityFace`, `Logo`.
        optional scene = "Scene": Text,
        /// `Block`, `Review` or `Pass`.
        optional suggestion = "Suggestion": Text,
        /// The worst label.
        optional label = "Label" or "label": Text,
        /// Its second level.
        optional sub_label = "SubLabel": Text,
        /// 0 to 100.
        optional score = "Score": Int,
        /// Names of the objects.
        optional names = "Names": [Text],
        /// The objects one by one.
        optional details = "Details": [ObjectDetail],
    }

    /// An object in a picture.
    pub struct ObjectDetail {
        /// Number of the object.
        optional id = "Id": Int,
        /// Its label.
        optional name = "Name": Text,
        /// What it says or stands for, as the address in a QR code.
        optional value = "Value": Text,
        /// 0 to 100.
        optional score = "Score": Int,
        /// Where it is.
        optional location = "Location": Location,
    }

    /// What text recognition found.
    pub struct OcrResult {
        /// 1 where it found something.
        optional hit_flag = "HitFlag": Int,
        /// `OCR`.
        optional scene = "Scene": Text,
        /// `Block`, `Review` or `Pass`.
        optional suggestion = "Suggestion": Text,
        /// The worst label.
        optional label = "Label" or "label": Text,
        /// Its second level.
        optional sub_label = "SubLabel": Text,
        /// 0 to 100.
        optional score = "Score": Int,
        /// All the text.
        optional text = "Text": Text,
        /// The text piece by piece.
        optional details = "Details": [OcrDetail],
    }

    /// A piece of text in a picture.
    pub struct OcrDetail {
        /// Up to 5000 bytes.
        optional text = "Text": Text,
        /// Its label.
        optional label = "Label" or "label": Text,
        /// The words that gave it the label.
        optional keywords = "Keywords": [Text],
        /// 0 to 100.
        optional score = "Score": Int,
        /// Where it is.
        optional location = "Location": Location,
    }

    /// Which known pictures a picture resembles.
    pub struct LibResult {
        /// 1 where it resembles one.
        optional hit_flag = "HitFlag": Int,
        /// `Similar`.
        optional scene = "Scene": Text,
        /// `Block`, `Review` or `Pass`.
        optional suggestion = "Suggestion": Text,
        /// The worst label.
        optional label = "Label" or "label": Text,
        /// Its second level.
        optional sub_label = "SubLabel": Text,
        /// 0 to 100.
        optional score = "Score": Int,
        /// The known pictures one by one.
        optional details = "Details": [LibDetail],
    }

    /// A known picture.
    pub struct LibDetail {
        /// Number of the finding.
        optional id = "Id": Int,
        /// Name of the known picture.
        optional image_id = "ImageId": Id,
        /// Its label.
        optional label = "Label" or "label": Text,
        /// Its tag.
        optional tag = "Tag": Text,
        /// 0 to 100.
        optional score = "Score": Int,
    }

    /// A rectangle in a picture.
    pub struct Location {
        /// Left edge in pixels.
        optional x = "X": Float,
        /// Upper edge in pixels.
        optional y = "Y": Float,
        /// Pixels.
        optional width = "Width": Float,
        /// Pixels.
        optional height = "Height": Float,
        /// Degrees.
        optional rotate = "Rotate": Float,
    }

    /// An assessment of before 2020, still sent as an empty list.
    pub struct AbductionRisk {
        /// 0 to 4.
        optional level: Int,
        /// 20002 in all bodies known.
        optional kind = "type": Int,
    }

    /// A face in a picture.
    pub struct FaceDetail {
        /// A scale, not a choice.
        optional gender: Float,
        /// Years.
        optional age: Float,
        /// A scale from serious to laughing.
        optional expression: Float,
        /// A scale.
        optional beauty: Float,
        /// Left edge in pixels.
        optional x: Float,
        /// Upper edge in pixels.
        optional y: Float,
        /// Pixels.
        optional width: Float,
        /// Pixels.
        optional height: Float,
    }

    /// Games in a picture, in 2018.
    pub struct GameDetails {
        /// The JSON of the member, whose type no source tells.
        optional battlegrounds: Any,
        /// Games it may show.
        optional game_list = "gameList": [Game],
    }

    /// A game a picture may show.
    pub struct Game {
        /// Its name.
        optional name: Text,
        /// How sure that is.
        optional confidence: Float,
    }
}

impl ImageAudit {
    /// Stream, time and address of the picture.
    pub fn natural_key(&self) -> Option<String> {
        natural_key::of(Kind::ImageAudit, &[&self.stream_id, &self.screenshot_time, &self.img])
    }
}

#[cfg(test)]
mod tests {
    use super::super::Payload;
    use super::super::testing::{drift_of, key_of, payload_of, sample};
    use super::*;

    fn audit(body: &str) -> ImageAudit {
        match payload_of(body) {
            Payload::ImageAudit(audit) => *audit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn findings_are_read() {
        let audit = audit(&sample("image-audit-2024"));
        assert_eq!((audit.types, audit.scores), (vec![1], vec![99.0]));
        assert_eq!(audit.label_results.len(), 4);
        let porn = &audit.label_results[1];
        assert_eq!((porn.hit_flag, porn.label.as_deref(), porn.score), (Some(1), Some("Porn"), Some(99)));
        assert_eq!(porn.details[1].name.as_deref(), Some("WomenChest"));
        assert_eq!(audit.object_results[2].scene.as_deref(), Some("PolityFace"));
        assert_eq!(audit.ocr_results[0].text.as_deref(), Some(""));
    }

    #[test]
    fn scores_are_read_under_either_name_and_in_either_shape() {
        let body = |member: &str| {
            format!(r#"{{"event_type":317,"img":"","type":[],"screenshotTime":1,"sendTime":1,{member}}}"#)
        };
        for (member, scores, drift) in [
            (r#""score":[98,99.5]"#, vec![98.0, 99.5], &[][..]),
            (r#""score":99"#, vec![99.0], &[]),
            (r#""socre":99"#, vec![99.0], &["`socre` stands for `score`"]),
            (r#""socre":[99]"#, vec![99.0], &["`socre` stands for `score`"]),
            (r#""score":null"#, vec![], &["`score` is null, documented as a list"]),
            (
                r#""score":["99","high",1]"#,
                vec![99.0, 1.0],
                &["`score[0]` is text, documented as a number", "`score[1]` is text, documented as a number"],
            ),
            (
                r#""socre":1,"score":2"#,
                vec![2.0],
                &["`socre` stands for `score`", "`score` is repeated, the last one counts"],
            ),
        ] {
            assert_eq!(audit(&body(member)).scores, scores, "{member}");
            assert_eq!(drift_of(&body(member)), drift, "{member}");
        }
    }

    #[test]
    fn null_lists_are_empty_and_noted() {
        let body = sample("image-audit-2020")
            .replace(r#""abductionRisk": []"#, r#""abductionRisk": null, "labelResults": null"#);
        assert_eq!(audit(&body).label_results, []);
        assert_eq!(
            drift_of(&body),
            ["`abductionRisk` is null, documented as a list", "`labelResults` is null, documented as a list"]
        );
    }

    #[test]
    fn drift_inside_results_is_noted_with_its_place() {
        let body = sample("image-audit-2024")
            .replacen(r#""Label": "Normal""#, r#""label": "Normal", "Foo": 1"#, 1)
            .replacen(r#""Id": 1"#, r#""Id": true"#, 1);
        assert_eq!(audit(&body).label_results[0].label.as_deref(), Some("Normal"));
        assert_eq!(
            drift_of(&body)[1..],
            [
                "unknown member `labelResults[0].Foo`",
                "`labelResults[1].Details[1].Id` is a boolean, documented as a whole number",
            ]
        );
    }

    #[test]
    fn a_body_of_2018_is_read_with_games_and_faces() {
        let body = sample("image-audit-2018-legacy-header-signed").replace(
            r#""faceDetails": []"#,
            r#""faceDetails": [{"gender":99,"age":25,"expression":3,"beauty":80.5,"x":1,"y":2,"width":3,"height":4}],
               "gameDetails": {"battlegrounds": 1, "gameList": [{"name":"g","confidence":55}]}"#,
        );
        let audit = audit(&body);
        assert_eq!(drift_of(&body), [""; 0]);
        assert_eq!(audit.face_details[0].beauty, Some(80.5));
        assert_eq!(audit.game_details.unwrap().game_list[0].confidence, Some(55.0));
        assert_eq!(audit.hot_score, Some(93.0));
    }

    #[test]
    fn old_and_new_bodies_are_known_by_stream_time_and_picture() {
        let rest = r#""streamId":"s","screenshotTime":5,"img":"i""#;
        let old = key_of(&format!("{{{rest}}}")).unwrap();
        assert_eq!(old, "image-audit 1:s,1:5,1:i,");
        assert_eq!(key_of(&format!(r#"{{"event_type":317,{rest}}}"#)), Some(old));
    }
}
